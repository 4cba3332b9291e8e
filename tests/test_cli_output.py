from stillroom.cli_output import evaluation_line, print_error, print_rich, status_line
from stillroom.tasks.average_precision import AveragePrecision
from stillroom.tasks.classification_score import Evaluation


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


def test_an_evaluation_is_one_line_of_the_numbers_of_its_task():
    assert evaluation_line(Evaluation(50.0, 90.0, 1.5, 40)).startswith(
        "top-1 50.00 %   top-5 90.00 %   loss 1.5000   40"
    )
    found = AveragePrecision(30.0, 60.0, 20.0, 10.0, None, None, (30.0,), 1)
    assert evaluation_line(found) == "AP 30.00 %   AP50 60.00 %   AP75 20.00 %   AP small 10.00 %   1 image"
