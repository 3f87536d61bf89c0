"""``python -m converter`` is ``dcm2fhir``."""

from converter.cli.main import main

main()
