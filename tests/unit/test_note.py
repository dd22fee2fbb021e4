"""The runtime's note: what is understood, and what is passed over."""

from __future__ import annotations

from percpu_tools.note import parse_note


def test_every_key():
    note = parse_note(
        b"version=0.1.0\narch=x86_64\nlayout=in-image\nfeatures=non-zero-vma,preempt\nbase-register=gs\n"
        b"cache-line=64\nnear-reach=2048\nstack-guard=1\n\0\0"
    )
    assert (note.version, note.arch, note.layout) == ("0.1.0", "x86_64", "in-image")
    assert note.features == ("non-zero-vma", "preempt")
    assert (note.base_register, note.cache_line, note.near_reach, note.stack_guard) == ("gs", 64, 2048, True)


def test_nothing():
    note = parse_note(b"")
    assert (note.version, note.arch, note.layout, note.features) == (None, None, None, ())
    assert (note.base_register, note.cache_line, note.near_reach, note.stack_guard) == (None, None, None, False)


def test_what_a_later_version_or_a_damaged_file_may_hold():
    note = parse_note(b"layout=spiral\ncache-line=65\nnear-reach=-1\nfuture=1\nno equals\n\xff=\xfe\nfeatures=\n\0arch=arm")
    assert (note.layout, note.cache_line, note.near_reach, note.features, note.arch) == (None, None, None, (), None)
    assert parse_note(b"cache-line=" + b"9" * 100000).cache_line is None
