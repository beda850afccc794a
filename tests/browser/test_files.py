"""The same pages opened as files, as from an unpacked archive: no server, no errors, widgets alive."""


def test_page_opens_from_a_file(open_page, site, name):
    page = open_page((site / f"{name}.html").as_uri())  # waits for the mathematics and for every widget's controls
    assert page.log.trouble == []
    page.close()
