-- Pass everything that comes on to dcm2fhir, object by object.
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, "dcm2fhir")
end
