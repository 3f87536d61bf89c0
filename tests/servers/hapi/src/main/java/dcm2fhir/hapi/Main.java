package dcm2fhir.hapi;

import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.binary.api.IBinaryStorageSvc;
import ca.uhn.fhir.jpa.binstore.MemoryBinaryStorageSvcImpl;
import ca.uhn.fhir.jpa.config.HapiJpaConfig;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.provider.JpaSystemProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.interceptor.RequestValidatingInterceptor;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.validation.IValidatorModule;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import jakarta.persistence.EntityManagerFactory;
import java.util.Arrays;
import java.util.Map;
import javax.sql.DataSource;
import org.apache.commons.dbcp2.BasicDataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;

/**
 * A HAPI FHIR JPA server in memory, on a free port of loopback. It says where on its standard output, and
 * ends when its standard input does, so that it never outlives the tests.
 *
 * <p>Arguments: {@code validate} answers every invalid body with 422; {@code server-ids} refuses ids of
 * clients.
 */
public final class Main {
	private static boolean serverIds;

	@Import({
		JpaR4Config.class,
		HapiJpaConfig.class,
		ThreadPoolFactoryConfig.class,
		JpaBatch2Config.class,
		Batch2JobsConfig.class,
		SubscriptionSubmitterConfig.class,
		SubscriptionChannelConfig.class
	})
	static class Beans {
		@Bean
		JpaStorageSettings storage() {
			var storage = new JpaStorageSettings();
			storage.setResourceClientIdStrategy(
					serverIds
							? JpaStorageSettings.ClientIdStrategyEnum.NOT_ALLOWED
							: JpaStorageSettings.ClientIdStrategyEnum.ANY);
			storage.setSchedulingDisabled(true);
			// a search must see what was written a moment ago
			storage.setReuseCachedSearchResultsForMillis(null);
			return storage;
		}

		@Bean
		PartitionSettings partitions() {
			return new PartitionSettings();
		}

		@Bean
		SubscriptionSettings subscriptions() {
			return new SubscriptionSettings();
		}

		@Bean
		IBinaryStorageSvc binaries() {
			return new MemoryBinaryStorageSvcImpl();
		}

		@Bean(destroyMethod = "close")
		DataSource database() {
			var pool = new BasicDataSource();
			pool.setUrl("jdbc:h2:mem:tests;DB_CLOSE_DELAY=-1");
			// a request may need two: with too few they wait for each other
			pool.setMaxTotal(200);
			return pool;
		}

		@Bean
		LocalContainerEntityManagerFactoryBean entityManagerFactory(
				ConfigurableListableBeanFactory beans, FhirContext fhir, JpaStorageSettings storage, DataSource database) {
			var factory = HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, fhir, storage);
			factory.setPersistenceUnitName("tests");
			factory.setDataSource(database);
			factory.setJpaPropertyMap(
					Map.of(
							"hibernate.dialect", HapiFhirH2Dialect.class.getName(),
							"hibernate.hbm2ddl.auto", "create-only",
							"hibernate.search.enabled", "false"));
			return factory;
		}

		@Bean
		@Primary
		JpaTransactionManager transactionManager(EntityManagerFactory factory) {
			return new JpaTransactionManager(factory);
		}
	}

	public static void main(String[] arguments) throws Exception {
		var asked = Arrays.asList(arguments);
		serverIds = asked.contains("server-ids");
		var context = new AnnotationConfigApplicationContext(Beans.class);
		var server = new RestfulServer(context.getBean(FhirContext.class));
		server.registerProviders(context.getBean(ResourceProviderFactory.class).createProviders());
		server.registerProvider(context.getBean(JpaSystemProvider.class));
		server.setPagingProvider(context.getBean(DatabaseBackedPagingProvider.class));
		server.setDefaultResponseEncoding(EncodingEnum.JSON);
		if (asked.contains("validate")) {
			var validation = new RequestValidatingInterceptor();
			validation.addValidatorModule(context.getBean(IValidatorModule.class));
			validation.setFailOnSeverity(ResultSeverityEnum.ERROR);
			server.registerInterceptor(validation);
		}

		var jetty = new Server();
		var connector = new ServerConnector(jetty);
		connector.setHost("127.0.0.1");
		jetty.addConnector(connector);
		var root = new ServletContextHandler("/");
		root.addServlet(new ServletHolder(server), "/fhir/*");
		jetty.setHandler(root);
		jetty.start();
		System.out.println("http://127.0.0.1:" + connector.getLocalPort() + "/fhir");
		while (System.in.read() >= 0) {
			// nothing is asked this way; the end is all that counts
		}
		Runtime.getRuntime().halt(0);
	}
}
