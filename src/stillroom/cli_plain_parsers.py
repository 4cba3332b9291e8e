"""The arguments of the commands that have no settings of a run."""

from __future__ import annotations

from stillroom.cli_parsers import Parser, add_trust
from stillroom.probe.probe_options import ProbeOptions
from stillroom.run_options import RunOptions
from stillroom.settings import defaults_in, settings_in

SHELLS = ("bash", "zsh", "fish")


def demo_parser() -> Parser:
    """The arguments of ``demo``."""
    parser = Parser(prog="stillroom demo", description="Train a teacher and four students on drawn images and write "
                    "a page that compares them.")  # fmt: skip
    parser.add_argument("--task", choices=["classification", "detection"], default="classification",
                        help="characters in Glyphs-100, or characters and shapes with boxes in scenes; detection takes "
                        "under ten minutes on two cores (default: classification)")  # fmt: skip
    parser.add_argument("--out", help="folder for runs, page and student (default: runs/demo, or runs/demo-detection)")
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs: a minute or two, less accurate")
    parser.add_argument("--seed", type=int, default=0, help="fixes initial weights, order, augmentation (default: 0)")
    return parser


def report_parser() -> Parser:
    """The arguments of ``report``."""
    parser = Parser(prog="stillroom report", description="Write the page about finished runs.")
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="run folders, or folders that contain them")
    parser.add_argument("--out", help="the HTML file (default: index.html in the first folder)")
    parser.add_argument("--reference", help="method that the others are compared with (default: kd, else ce)")
    parser.add_argument("--table", help="also write the tables to this file: .md, .tex, or .csv with one row per run")
    parser.add_argument("--views", choices=["true", "false"], default="true",
                        help="false leaves out what needs models and images (default: true)")  # fmt: skip
    parser.add_argument("--groups", metavar="FILE",
                        help="YAML file with groups of close classes, NAME: [class, class] (default: groups by "
                        "WordNet, where class names have WordNet ids)")  # fmt: skip
    add_trust(parser)
    return parser


def probe_parser() -> Parser:
    """The arguments of ``probe``."""
    parser = Parser(prog="stillroom probe", description="Measure finished students, and their teachers, beyond "
                    "validation accuracy. The numbers are recorded in the run folders and shown by `stillroom report`.",
                    )  # fmt: skip
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="run folders, or folders that contain them")
    defaults = defaults_in(ProbeOptions)
    for name, known in settings_in(ProbeOptions).items():
        default = defaults[name]
        ending = (
            "" if default is None else f" (default: {str(default).lower() if default in (True, False) else default})"
        )
        parser.add_argument(f"--{name}", metavar=name.upper(), help=known.help + ending)
    add_trust(parser)
    return parser


def export_parser() -> Parser:
    """The arguments of ``export``."""
    parser = Parser(prog="stillroom export", description="Turn a finished run's student into files to deploy: "
                    "safetensors, ONNX, int8, a model card.")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", help="a new folder (default: export/ in the run folder)")
    parser.add_argument("--no_onnx", action="store_true", help="only safetensors, configuration and model card")
    parser.add_argument("--no_int8", action="store_true", help="no quantised ONNX")
    parser.add_argument("--no_latency", action="store_true", help="do not measure speed")
    add_trust(parser)
    return parser


def predict_parser() -> Parser:
    """The arguments of ``predict``."""
    parser = Parser(prog="stillroom predict", description="Show the classes that a model finds in image files, with "
                    "their probabilities. Exit status 1 means that an image cannot be read.")  # fmt: skip
    parser.add_argument("model", metavar="MODEL",
                        help="folder of a finished run, folder or ONNX file of an export, efficientnet-lite0, "
                        "timm:NAME or torchvision:NAME")  # fmt: skip
    parser.add_argument("images", metavar="IMAGES", nargs="+",
                        help="image files, and folders that stand for all images in them and below")  # fmt: skip
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes of each image (default: 5)")
    parser.add_argument("--format", choices=["table", "csv"], default="table",
                        help="csv has a row for each image and class, with unrounded probabilities (default: table)",
                        )  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="images in a step (default: 64)")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "cuda", "mps"], default="auto",
                        help="device to compute on (default: auto)")  # fmt: skip
    parser.add_argument("--precision", choices=["auto", "32", "bf16"], default="32",
                        help="32 (float32), bf16 (autocast), or auto: bf16 where the processor computes in it "
                        "(default: 32)")  # fmt: skip
    parser.add_argument("--checkpoint", metavar="FILE",
                        help="weights for a timm or torchvision model, or in the place of a run's own")  # fmt: skip
    parser.add_argument("--pretrained", choices=["true", "false"],
                        help="use the published weights of a timm or torchvision model (default: false)")  # fmt: skip
    parser.add_argument("--class_names", metavar="FILE",
                        help="names of the classes in the model's order: one a line, or a JSON or YAML list or mapping "
                        "from index to name. Default: the model's own, else numbers")  # fmt: skip
    add_trust(parser)
    return parser


def pack_parser() -> Parser:
    """The arguments of ``pack``."""
    parser = Parser(prog="stillroom pack", description="Pack images into Arrow shards, which are read faster than "
                    "files. A pack that was killed continues with the same command.",
                    usage="stillroom pack SRC DEST [--NAME VALUE ...]\n       stillroom pack --check DEST")  # fmt: skip
    parser.add_argument("folders", metavar="FOLDER", nargs="+",
                        help="SRC, a set in any layout that --data takes, and DEST, a new folder")  # fmt: skip
    parser.add_argument("--size", type=int, default=256, metavar="N",
                        help="shorter side in pixels; smaller images are not enlarged (default: 256)")  # fmt: skip
    parser.add_argument("--quality", type=int, default=90, metavar="N", help="of the JPEG files (default: 90)")
    parser.add_argument("--keep_bytes", action="store_true", help="keep the image files as they are")
    parser.add_argument("--shard_mb", type=int, default=256, metavar="N",
                        help="size of a shard in megabytes, about (default: 256)")  # fmt: skip
    parser.add_argument("--class_depth", type=int, default=1, metavar="N",
                        help="levels below SRC or its splits at which the class folders are (default: 1)")  # fmt: skip
    parser.add_argument("--skip_broken", type=float, default=0.0, metavar="X",
                        help="fraction of unreadable images to leave out (default: 0.0)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; no effect on the result (default: all cores)")
    parser.add_argument("--check", action="store_true",
                        help="compare the given folder with its manifest; exit status 1 if they differ")  # fmt: skip
    return parser


def list_parser() -> Parser:
    """The arguments of ``list``."""
    parser = Parser(prog="stillroom list", description="Show what there is to choose from.")
    parser.add_argument("what", metavar="WHAT", help="models, methods, optimizers, data or recipes")
    parser.add_argument("name", metavar="NAME", nargs="?", default="",
                        help="one method, described in full; elsewhere, part of the name")  # fmt: skip
    for key in ("dataset", "teacher", "student", "method"):
        parser.add_argument(f"--{key}", default="", help=f"only recipes with this {key}")
    return parser


def runs_parser() -> Parser:
    """The arguments of ``runs``."""
    parser = Parser(prog="stillroom runs", description="List, show, compare and remove run folders.")
    parts = parser.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=Parser)
    about = "list runs, with method, student, data, accuracy, state and date"
    listed = parts.add_parser("list", help=about, description=f"{about[0].upper()}{about[1:]}.")
    listed.add_argument("folders", metavar="FOLDER", nargs="*", default=[RunOptions.runs],
                        help=f"folders that contain runs or comparisons (default: {RunOptions.runs})")  # fmt: skip
    listed.add_argument("--sort", choices=["name", "method", "student", "data", "top1", "state", "date"],
                        default="date", help="column to sort by (default: date, the latest first)")  # fmt: skip
    about = "show a run: its result, the settings that differ from their defaults, its files"
    one = parts.add_parser("show", help=about, description=f"{about[0].upper()}{about[1:]}.")
    one.add_argument("runs", metavar="RUN", nargs=1, help="run folder")
    about = "show in which settings runs differ, and their results side by side"
    some = parts.add_parser("compare", help=about, description=f"{about[0].upper()}{about[1:]}.")
    some.add_argument("runs", metavar="RUN", nargs="+", help="two or more run folders")
    about = "remove run folders for good"
    gone = parts.add_parser("remove", help=about, description=f"{about[0].upper()}{about[1:]}.")
    gone.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    gone.add_argument("--yes", action="store_true", help="remove them; without it nothing is removed")
    gone.add_argument("--force", action="store_true",
                      help="also runs that other runs need, and folders with files of yours")  # fmt: skip
    return parser


def completion_parser() -> Parser:
    """The arguments of ``completion``."""
    parser = Parser(prog="stillroom completion", description="Print a script with which a shell completes commands, "
                    "settings and their values.")  # fmt: skip
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    return parser
