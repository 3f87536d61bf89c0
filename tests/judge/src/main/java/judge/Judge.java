package judge;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirDefaultPolicyAdvisor;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r5.elementmodel.Element;
import org.hl7.fhir.r5.elementmodel.Manager;
import org.hl7.fhir.r5.model.CanonicalResource;
import org.hl7.fhir.r5.model.CanonicalType;
import org.hl7.fhir.r5.utils.validation.IResourceValidator;
import org.hl7.fhir.r5.utils.validation.IValidatorResourceFetcher;
import org.hl7.fhir.r5.utils.validation.constants.BestPracticeWarningLevel;
import org.hl7.fhir.r5.utils.validation.constants.ReferenceValidationPolicy;
import org.hl7.fhir.validation.instance.InstanceValidator;

/**
 * Holds FHIR R4 JSON files against the HL7 validator, offline.
 *
 * <p>The argument is a folder of StructureDefinitions, ValueSets and CodeSystems. Standard input has
 * one path a line; standard output answers each with its messages, one a line (severity, place and
 * text, by tabs), and an empty line.
 */
public final class Judge {

  private Judge() {}

  public static void main(String[] arguments) throws IOException {
    FhirContext r4 = FhirContext.forR4();
    FhirValidator validator = r4.newValidator().registerValidatorModule(instanceValidator(r4, arguments[0]));
    PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    BufferedReader questions =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String path = questions.readLine(); path != null; path = questions.readLine()) {
      answer(validator, Path.of(path), answers);
      answers.println();
      answers.flush();
    }
  }

  private static void answer(FhirValidator validator, Path path, PrintStream answers)
      throws IOException {
    String text;
    try {
      text = Files.readString(path, StandardCharsets.UTF_8);
    } catch (CharacterCodingException error) {
      tell(answers, "fatal", "", "not UTF-8");
      return;
    }
    try {
      for (SingleValidationMessage message : validator.validateWithResult(text).getMessages()) {
        tell(
            answers,
            message.getSeverity().getCode(),
            String.valueOf(message.getLocationString()),
            message.getMessage());
      }
    } catch (RuntimeException error) {
      // What it cannot even read it answers with an exception of its parser.
      tell(answers, "fatal", "", String.valueOf(error.getMessage()));
    }
  }

  private static void tell(PrintStream answers, String severity, String place, String text) {
    answers.println(severity + "\t" + place + "\t" + text.replaceAll("\\s+", " "));
  }

  private static FhirInstanceValidator instanceValidator(FhirContext r4, String definitions)
      throws IOException {
    PrePopulatedValidationSupport given = new PrePopulatedValidationSupport(r4);
    try (DirectoryStream<Path> files = Files.newDirectoryStream(Path.of(definitions), "*.json")) {
      for (Path file : files) {
        given.addResource(r4.newJsonParser().parseResource(Files.readString(file)));
      }
    }
    UnknownCodeSystemWarningValidationSupport strangers =
        new UnknownCodeSystemWarningValidationSupport(r4);
    strangers.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
    FhirInstanceValidator module =
        new FhirInstanceValidator(
            new ValidationSupportChain(
                given,
                new DefaultProfileValidationSupport(r4),
                new SnapshotGeneratingValidationSupport(r4),
                new CommonCodeSystemsTerminologyService(r4),
                new InMemoryTerminologyServerValidationSupport(r4),
                strangers));
    module.setAnyExtensionsAllowed(false);
    module.setErrorForUnknownProfiles(true);
    module.setBestPracticeWarningLevel(BestPracticeWarningLevel.Ignore);
    module.setValidatorPolicyAdvisor(new TargetTypes());
    module.setValidatorResourceFetcher(new NameOnly());
    return module;
  }

  /** Wants the type of a reference's target to be checked wherever it can be known. */
  private static final class TargetTypes extends FhirDefaultPolicyAdvisor {
    @Override
    public ReferenceValidationPolicy policyForReference(
        IResourceValidator validator,
        Object context,
        String path,
        String url,
        ReferenceDestinationType destination) {
      return ReferenceValidationPolicy.CHECK_TYPE_IF_EXISTS;
    }
  }

  /** Stands in for a server: of "Type/id" it knows that a resource of this type and id exists. */
  private static final class NameOnly implements IValidatorResourceFetcher {
    @Override
    public Element fetch(IResourceValidator validator, Object context, String url)
        throws IOException {
      if (!url.matches("[A-Z][A-Za-z]+/[A-Za-z0-9\\-.]{1,64}")) {
        return null;
      }
      int slash = url.indexOf('/');
      String stub =
          "{\"resourceType\":\"" + url.substring(0, slash) + "\",\"id\":\"" + url.substring(slash + 1) + "\"}";
      return Manager.parseSingle(
          ((InstanceValidator) validator).getContext(),
          new ByteArrayInputStream(stub.getBytes(StandardCharsets.UTF_8)),
          Manager.FhirFormat.JSON);
    }

    @Override
    public boolean resolveURL(
        IResourceValidator validator,
        Object context,
        String path,
        String url,
        String type,
        boolean canonical,
        List<CanonicalType> targets) {
      return true;
    }

    @Override
    public byte[] fetchRaw(IResourceValidator validator, String url) {
      return null;
    }

    @Override
    public CanonicalResource fetchCanonicalResource(
        IResourceValidator validator, Object context, String url) {
      return null;
    }

    @Override
    public boolean fetchesCanonicalResource(IResourceValidator validator, String url) {
      return false;
    }

    @Override
    public Set<ResourceVersionInformation> fetchCanonicalResourceVersions(
        IResourceValidator validator, Object context, String url) {
      return Set.of();
    }

    @Override
    public IValidatorResourceFetcher setLocale(Locale locale) {
      return this;
    }
  }
}
