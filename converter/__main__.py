"""``python -m converter`` is ``dcm2fhir``."""

from converter.cli.main import main

if __name__ == "__main__":  # a worker process imports this module under another name
    main()
