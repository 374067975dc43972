"""OME-XML: units, forms of XML, and the Pixels element of each directory."""

import pytest

from mcti.slides import ome

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def document(pixels, prefix="", head='<?xml version="1.0" encoding="UTF-8"?>'):
    name = f"{prefix}:OME xmlns:{prefix}" if prefix else "OME xmlns"
    end = f"{prefix}:OME" if prefix else "OME"
    images = "".join(f"<Image>{element}</Image>".replace("<", f"<{prefix}:" if prefix else "<") for element in pixels)
    images = images.replace(f"<{prefix}:/", f"</{prefix}:") if prefix else images
    return f'{head}<{name}="{SCHEMA}">{images}</{end}>'


@pytest.mark.parametrize(
    ("text", "mpp"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.5"', (0.25, 0.5)),  # the schema's default is µm
        ("PhysicalSizeX='0.25' PhysicalSizeY='0.25' PhysicalSizeXUnit='µm'", (0.25, 0.25)),
        (
            'PhysicalSizeX="0.25" PhysicalSizeY="0.25" PhysicalSizeXUnit="&#181;m" PhysicalSizeYUnit="&#xB5;m"',
            (0.25,) * 2,
        ),
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.25" PhysicalSizeXUnit="&#956;m" PhysicalSizeYUnit="um"', (0.25,) * 2),
        ('PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="2500" PhysicalSizeYUnit="Å"', (0.25, 0.25)),
        ('PhysicalSizeX="2500" PhysicalSizeXUnit="&#8491;" PhysicalSizeY="250000" PhysicalSizeYUnit="pm"', (0.25,) * 2),
        ('PhysicalSizeX="2.5E-4" PhysicalSizeXUnit="mm" PhysicalSizeY="0.000025" PhysicalSizeYUnit="cm"', (0.25,) * 2),
        ('PhysicalSizeX="2.5e-7" PhysicalSizeXUnit="m" PhysicalSizeY="1e-5" PhysicalSizeYUnit="in"', (0.25, 0.254)),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"', None),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="reference frame" PhysicalSizeY="1"', None),
        ('PhysicalSizeX="0.25"', None),
        ('PhysicalSizeX="0" PhysicalSizeY="0"', None),
        ('PhysicalSizeX="NaN" PhysicalSizeY="0.25"', None),
        ('PhysicalSizeX="a" PhysicalSizeY="0.25"', None),
        ("", None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "ome"])
def test_sizes_are_read_in_every_unit_of_the_schema(text, mpp, prefix):
    (picture,) = ome.pixels(document([f"<Pixels SizeX='9' SizeY='8' {text}/>"], prefix))
    assert picture.size == (9, 8)
    assert picture.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-12))


def test_ome_xml_may_have_a_comment_before_the_root_and_a_prefix():
    assert ome.is_ome("<?xml version='1.0'?><!-- Warning: do not edit --><OME xmlns='x'>")
    assert ome.is_ome('<ome:OME xmlns:ome="x">')
    assert not ome.is_ome("<HOME >")


@pytest.mark.parametrize(
    ("tables", "holds"),
    [
        ("<TiffData IFD='2' PlaneCount='1'/>", {2}),
        ("<TiffData IFD='2'/>", {2}),
        ("<TiffData IFD='1' PlaneCount='3'/>", {1, 2, 3}),
        ("<TiffData/>", {0, 1}),  # all planes: two in Z, three samples in one channel
        ("<TiffData PlaneCount='1'/>", {0}),
        ("<TiffData IFD='1'><UUID FileName='a.tif'>urn:uuid:other</UUID></TiffData>", set()),
        ("<TiffData IFD='1'><UUID FileName='b.tif'>urn:uuid:own</UUID></TiffData>", {1}),
    ],
)
def test_tiffdata_states_the_directories_of_its_pixels(tables, holds):
    pixels = (
        f"<Pixels SizeX='9' SizeY='8' SizeC='3' SizeZ='2' SizeT='1'><Channel SamplesPerPixel='3'/>{tables}</Pixels>"
    )
    text = f"<OME xmlns='{SCHEMA}' UUID='urn:uuid:own'><Image>{pixels}</Image></OME>"
    (picture,) = ome.pixels(text)
    assert {i for i in range(6) if picture.holds(i)} == holds


def test_entities_of_a_document_type_are_not_expanded():
    text = '<!DOCTYPE OME [<!ENTITY a "0.25">]><OME><Pixels PhysicalSizeX="&a;" PhysicalSizeY="&a;"/></OME>'
    assert ome.pixels(text) == []


@pytest.mark.parametrize("text", ["", "<OME", "<OME><BinaryOnly MetadataFile='a.companion.ome'/></OME>"])
def test_a_document_without_pixels_has_none(text):
    assert ome.pixels(text) == []
