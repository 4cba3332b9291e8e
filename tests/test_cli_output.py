from stillroom.cli_output import print_error, print_rich, status_line


def test_text_is_printed_as_it_is_in_whole_lines(capsys):
    print_rich("[red] :smile: " + 300 * "x")
    assert capsys.readouterr().out == "[red] :smile: " + 300 * "x" + "\n"


def test_an_error_is_one_line_whatever_it_holds(capsys):
    print_error("first\n  second caf\udce9")
    assert capsys.readouterr().err == "stillroom: first second caf\\udce9\n"


def test_there_is_no_status_line_in_a_pipe(capsys):
    with status_line() as say:
        say("working")
    assert "working" not in capsys.readouterr().out
