"""Write the groups of close classes, src/stillroom/data/synset_groups.yaml, from WordNet's hypernyms.

apt-get download wordnet-base && dpkg-deb -x wordnet-base*.deb wordnet
python benchmarks/synset_groups.py wordnet/usr/share/wordnet/data.noun ../shared/data/tiny-imagenet-200-32px/wnids.txt
"""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from timm.data.imagenet_info import ImageNetInfo

TARGET = Path(__file__).parents[1] / "src/stillroom/data/synset_groups.yaml"
FEWEST, MOST, DEPTH = 3, 10, 8
HEADER = """\
# Groups of close classes: synsets of WordNet 3.0 and the ImageNet classes below them. Written by
# `benchmarks/synset_groups.py`; do not edit.
#
# Rule: a group is a synset with 3 to 10 of Tiny-ImageNet's 200 classes below it and a hypernym path of 8 steps or more
# to the root. Of several synsets with the same classes the lowest counts, and none whose classes are a part of
# another group's. Its name is the synset's first word; its classes are those of Tiny-ImageNet and ImageNet-1K
# that are below it.
#
# The source, Debian's package wordnet-base 1:3.0-37, has this licence:
# Permission to use, copy, modify and distribute this software and database and its documentation for any purpose and
# without fee or royalty is hereby granted, provided that you agree to comply with the following copyright notice and
# statements, including the disclaimer, and that the same appear on ALL copies of the software, database and
# documentation, including modifications that you make for internal use or for distribution.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
# THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES,
# EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES
# OF MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE, DATABASE OR
# DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS.
# The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to distribution
# of the software and/or database. Title to copyright in this software, database and any associated documentation shall
# at all times remain with Princeton University and LICENSEE agrees to preserve same.
"""


class Nouns(NamedTuple):
    """The nouns of WordNet: the first word of each synset, and its hypernyms."""

    words: Mapping[str, str]
    hypernyms: Mapping[str, Sequence[str]]


def read_nouns(lines: Iterable[str]) -> Nouns:
    """Read WordNet's ``data.noun``; lines of its licence begin with two spaces."""
    words, hypernyms = {}, {}
    for line in lines:
        if line.startswith("  "):
            continue
        part = line.split(" | ")[0].split()
        synset, after = f"n{part[0]}", 4 + 2 * int(part[3], 16)
        pointers = [part[after + 1 + 4 * i : after + 3 + 4 * i] for i in range(int(part[after]))]
        words[synset] = part[4].replace("_", " ")
        hypernyms[synset] = [f"n{target}" for kind, target in pointers if kind in ("@", "@i")]
    return Nouns(words, hypernyms)


def close_groups(nouns: Nouns, classes: Sequence[str], others: Sequence[str] = ()) -> dict[str, tuple[str, list[str]]]:
    """Apply the rule of the header.

    Args:
        nouns: of WordNet.
        classes: the synsets that decide which groups there are.
        others: synsets that are listed in a group, too.

    Returns:
        Name of each group, its synset, and the classes below it.
    """

    @cache
    def above(synset: str) -> frozenset[str]:
        return frozenset([synset]).union(*map(above, nouns.hypernyms[synset]))

    @cache
    def depth(synset: str) -> int:
        return max((1 + depth(hypernym) for hypernym in nouns.hypernyms[synset]), default=0)

    below: dict[str, set[str]] = defaultdict(set)
    for synset in classes:
        for hypernym in above(synset):
            below[hypernym].add(synset)
    lowest: dict[frozenset[str], str] = {}
    for synset, members in below.items():
        if FEWEST <= len(members) <= MOST and depth(synset) >= DEPTH:
            same = lowest.get(frozenset(members), synset)
            lowest[frozenset(members)] = max(synset, same, key=lambda one: (depth(one), one))
    kept = [synset for members, synset in lowest.items() if not any(members < other for other in lowest)]
    known = sorted({*classes, *others})
    return {
        nouns.words[group]: (group, [synset for synset in known if group in above(synset)])
        for group in sorted(kept, key=lambda synset: nouns.words[synset])
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="synset_groups", description=__doc__.splitlines()[0])
    parser.add_argument("nouns", type=Path, help="WordNet's data.noun")
    parser.add_argument("wnids", type=Path, help="wnids.txt of Tiny-ImageNet")
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args()
    with given.nouns.open(encoding="latin-1") as lines:
        nouns = read_nouns(lines)
    groups = close_groups(nouns, given.wnids.read_text().split(), ImageNetInfo("imagenet-1k").label_names())
    text = [HEADER]
    for name, (synset, members) in groups.items():
        listed = textwrap.fill(f"[{', '.join(members)}]", 118, initial_indent="    ", subsequent_indent="     ")
        text.append(f"{name}:\n  synset: {synset}\n  classes:\n{listed}\n")
    given.out.write_text("".join(text), encoding="utf-8")
    print(f"{len(groups)} groups in {given.out}")


if __name__ == "__main__":
    main()
