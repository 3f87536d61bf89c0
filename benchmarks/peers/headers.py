"""One reader over a list of files: prints the CPU microseconds a file, its start-up (the first 250 that it reads) left out.

Usage: headers.py READER LISTFILE ; runs in the environment of the reader.
"""

import itertools
import os
import sys
import time

KEYWORDS = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "SeriesDate",
    "StudyTime",
    "SeriesTime",
    "AccessionNumber",
    "Modality",
    "Manufacturer",
    "InstitutionName",
    "ReferringPhysicianName",
    "StationName",
    "StudyDescription",
    "SeriesDescription",
    "PerformingPhysicianName",
    "OperatorsName",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "BodyPartExamined",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
    "NumberOfFrames",
    "RequestedProcedureDescription",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepID",
]
LAST_TAG = 0x0040A730


def floor():
    def read(path):
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 8192)
        os.close(descriptor)

    return read


def ours():
    from converter.mapping import load
    from converter.reading import read_file

    wanted = load(["uk-core", "ips"]).wanted
    return lambda path: read_file(path, wanted).header


def ours_walk():
    from converter.mapping import load
    from converter.reading import read_file
    from converter.reading.trace import Follower
    from converter.reading.walk import plan

    wanted = load(["uk-core", "ips"]).wanted
    follower = plan(wanted).follower = Follower(plan(wanted))
    follower.follow = lambda *_: None  # no two headers are alike
    follower.missed = lambda *_: None
    return lambda path: read_file(path, wanted).header


def pydicom():
    from pydicom import dcmread

    def read(path):
        ds = dcmread(path, stop_before_pixels=True)
        return [ds.get(keyword) for keyword in KEYWORDS]

    return read


def dicomsdl():
    import dicomsdl as library

    return lambda path: library.open_file(path, LAST_TAG).getValues(KEYWORDS)


def fw_file_rs():
    from fw_file_rs import dcm

    return lambda path: dcm.parse_header(dcm.read_until_pixels(path), KEYWORDS)


def gdcm():
    import gdcm as library

    stop = library.Tag(0x0040, 0xA730)

    def read(path):
        reader = library.Reader()
        reader.SetFileName(path)
        if not reader.ReadUpToTag(stop):
            raise ValueError(path)
        text = library.StringFilter()
        text.SetFile(reader.GetFile())
        return [text.ToString(tag) for tag in tags]

    from pydicom.datadict import tag_for_keyword

    tags = [library.Tag(tag >> 16, tag & 0xFFFF) for tag in map(tag_for_keyword, KEYWORDS)]
    return read


def main():
    read = globals()[sys.argv[1]]()
    with open(sys.argv[2], encoding="utf-8") as file:
        paths = file.read().split("\n")
    for path in itertools.islice(itertools.cycle(paths), 250):
        read(path)
    begin = time.process_time()
    for path in paths:
        read(path)
    print((time.process_time() - begin) / len(paths) * 1e6)


main()
