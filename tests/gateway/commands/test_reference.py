"""The generated documents are those of the code, and what the handwritten ones tell to type exists."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import msgspec
import pytest
import typer

from devices.catalogue import names
from gateway.cli import app
from gateway.commands import reference
from gateway.event_types import EVENT_TYPES

DOCS = Path(__file__).parents[3] / "docs"


def test_the_event_reference_is_up_to_date():
    """docs/events.md and docs/schemas are what `make docs` writes from the vocabulary."""
    assert (DOCS / "events.md").read_text("utf-8") == reference.render(), "run: make docs"
    committed = {path.name: path.read_text("utf-8") for path in (DOCS / "schemas").glob("*.json")}
    assert committed == reference.schemas(), "run: make docs"


def test_every_type_and_every_field_is_in_the_reference():
    """No type and no field of the vocabulary is missing, by its name on the wire."""
    text = reference.render()
    for name, entry in EVENT_TYPES.items():
        section = text.partition(f"### `{name}`")[2].partition("\n### ")[0]
        for field in msgspec.structs.fields(entry.data):
            assert f"| `{field.encode_name}` |" in section, (name, field.encode_name)
            assert ("**required**" in section) or not field.required


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_each_schema_requires_what_the_struct_requires(name):
    """The schema names its type, and asks for exactly the fields that have no default."""
    schema = json.loads(reference.schemas()[f"{name}.json"])
    assert schema["$id"] == f"urn:storefront:{name}"
    data = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    fields = msgspec.structs.fields(EVENT_TYPES[name].data)
    assert set(data.get("required", [])) == {field.encode_name for field in fields if field.required}
    assert set(data["properties"]) == {field.encode_name for field in fields}


def test_writing_removes_schemas_of_types_that_are_gone(tmp_path):
    """What is written is the whole truth: a left-over schema goes."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "store.gone.v1.json").write_text("{}")
    written = reference.write(tmp_path / "events.md")
    assert len(written) == len(EVENT_TYPES) + 1
    assert not (tmp_path / "schemas" / "store.gone.v1.json").exists()


@pytest.mark.parametrize("document", ["operations.md", "devices.md"])
def test_every_storefront_command_in_the_documents_exists(document):
    """Each line that tells to type `storefront …` parses: command, options and number of arguments."""
    text = (DOCS / document).read_text("utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [line for line in blocks.splitlines() if line.startswith("storefront ")]
    assert lines
    command = typer.main.get_command(app)
    for line in lines:
        arguments = shlex.split(line, comments=True)[1:]
        context, inner = command, list(arguments)
        while hasattr(context, "commands"):
            context = context.commands[inner.pop(0)]
        context.make_context(context.name, inner)


def test_the_device_guide_names_every_driver():
    """The table of docs/devices.md lists every driver of the catalogue."""
    text = (DOCS / "devices.md").read_text("utf-8")
    assert [name for name in names() if f"| `{name}` |" not in text] == []


def test_the_exit_codes_are_those_of_the_program():
    """The table in docs/operations.md has the codes of gateway/__main__.py."""
    from gateway import __main__ as program

    codes = re.findall(r"^\| (\d+) ", program.__doc__ or "", re.MULTILINE)
    assert codes == re.findall(r"^\| (\d+) ", (DOCS / "operations.md").read_text("utf-8"), re.MULTILINE)
