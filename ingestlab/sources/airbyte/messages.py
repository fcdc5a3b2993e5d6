"""What a connector writes: one message of the Airbyte protocol a line. Records keep their bytes as they came."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ingestlab.core.errors import IngestError, TerminalError, TransientError

KINDS = ("RECORD", "STATE", "LOG", "TRACE", "CATALOG", "SPEC", "CONNECTION_STATUS", "CONTROL")
_decode = json.JSONDecoder().raw_decode
_HEAD = re.compile(r'\s*\{\s*"type"\s*:\s*"RECORD"\s*,\s*"record"\s*:\s*(?=\{)')
_NAME = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_COMMA = re.compile(r"\s*,")
_CLOSE = re.compile(r"\s*\}")
_END = re.compile(r"\s*\}\s*\Z")
_TIME = b',"emitted_at":'
_SHOWN = 200  # characters of a line in an error
_LEVELS = {"FATAL", "ERROR", "WARN", "INFO"}  # what the log of a run takes of LOG
_MOST_LINES = 500


class RecordCutter:
    """Cut the records of one stream out of lines.

    A connector writes all messages of a stream alike. The beginning of one record is remembered, up to the brace of
    its data; where a line begins so, and ends as one does, the data is what lies between, and no parser is needed.

    Args:
        connector: As errors name it.
        stream: Whose records are wanted.
        namespace: Of the stream.
    """

    def __init__(self, connector: str, stream: str, namespace: str | None = None) -> None:
        self.connector, self.stream, self.namespace = connector, stream, namespace
        self._head = b"\0"  # begins no line

    def cut(self, line: bytes) -> bytes | None:
        """Return the data of a record. None for any other message.

        Raises:
            TerminalError: It is a record of another stream, or a broken one.
        """
        if line.startswith(self._head):
            end = line.rfind(_TIME)
            data = line[len(self._head) - 1 : end]
            # An object behind the data would follow it as `},"name":`; then the slow way tells them apart.
            if data.endswith(b"}") and line.endswith(b"}}") and line[end + 14 : -2].isdigit() and b"}," not in data:
                return data
        return self._parsed(line)

    def _parsed(self, line: bytes) -> bytes | None:
        text = line.decode("utf-8", "surrogateescape")
        head = _HEAD.match(text)
        if head is None:
            return None
        try:
            members, end = _members(text, head.end())
        except ValueError as error:
            raise self._broken(text, f"no JSON: {error}") from None
        if not _END.match(text, end):
            return None  # further names behind the record: told apart by a parser
        return self._taken(members, text)

    def whole(self, message: Mapping[str, Any], line: bytes) -> bytes | None:
        """Return the data of a parsed message. None where it is no record.

        Args:
            message: What the parser made of the line.
            line: As it came.
        """
        if message.get("type") != "RECORD":
            return None
        text = line.decode("utf-8", "surrogateescape")
        record = _members(text, _start(text))[0].get("record")
        if record is None or not isinstance(record[2], dict):
            raise self._broken(text, "a message of type RECORD without `record`")
        return self._taken(_members(text, record[0])[0], text)

    def _taken(self, members: Mapping[str, tuple[int, int, Any]], text: str) -> bytes:
        start, end, data = members.get("data", (0, 0, None))
        stream = members.get("stream", (0, 0, None))[2]
        if not isinstance(data, dict):
            raise self._broken(text, "a record without an object as its `data`")
        namespace = members.get("namespace", (0, 0, None))[2]
        if stream != self.stream or (namespace or None) != (self.namespace or None):
            other = f"{namespace}.{stream}" if namespace else f"{stream}"
            problem = f"{self.connector} sent a record of a stream that nobody asked for"
            fix = "This is the connector's fault; another version of it may help."
            raise TerminalError(problem, expected=self.stream, got=other, fix=fix, code="connector_invalid")
        if len(members["data"]) and text.startswith('{"type":"RECORD","record":{'):
            self._head = text[: start + 1].encode("utf-8", "surrogateescape")
        return text[start:end].encode("utf-8", "surrogateescape")

    def _broken(self, text: str, got: str) -> TerminalError:
        shown = text[:_SHOWN].encode("utf-8", "replace").decode()
        problem = f"{self.connector} sent a broken record"
        wanted = "a message of the Airbyte protocol"
        return TerminalError(problem, expected=wanted, got=f"{got}, in {shown}", code="connector_invalid")


def _start(text: str) -> int:
    return len(text) - len(text.lstrip())


def _members(text: str, at: int) -> tuple[dict[str, tuple[int, int, Any]], int]:
    """Read an object: by name where its value begins and ends, and what it is; and where the object ends."""
    members: dict[str, tuple[int, int, Any]] = {}
    at += 1
    if close := _CLOSE.match(text, at):
        return members, close.end()
    while name := _NAME.match(text, at):
        value, end = _decode(text, name.end())
        members[json.loads(f'"{name[1]}"')] = (name.end(), end, value)
        if close := _CLOSE.match(text, end):
            return members, close.end()
        comma = _COMMA.match(text, end)
        if comma is None:
            break
        at = comma.end()
    raise ValueError(f"a comma or a brace is missing near character {at}")


def parse(line: bytes) -> dict[str, Any] | None:
    """Read a message that is no record. None where a line is none of the protocol."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("type") in KINDS else None


class Listener:
    """Take what a connector says beside its records.

    It goes to the log of the run, and is remembered where it explains a failure.

    Args:
        connector: As texts name it.
        tell: Takes a line.
        conceal: Takes secrets out of a text.
    """

    def __init__(self, connector: str, tell: Callable[[str], None], conceal: Callable[[str], str]) -> None:
        self.connector, self._tell, self.conceal = connector, tell, conceal
        self.spoke = False  # it has said something of the protocol
        self.fault: IngestError | None = None
        self.incomplete = ""  # the stream that it could not read to the end
        self._told = 0
        self._noise = ""

    def tell(self, text: str) -> None:
        """Tell the log of the run a line, within a limit."""
        self._told += 1
        if self._told <= _MOST_LINES:
            self._tell(f"{self.connector}: {in_line(self.conceal(text))}")
        elif self._told == _MOST_LINES + 1:
            self._tell(f"{self.connector}: further lines of its log are left out")

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take a message that is no record.

        Args:
            message: As parsed.
        """
        self.spoke = True
        body = message.get(str(message["type"]).lower())
        if not isinstance(body, dict):
            return
        if message["type"] == "LOG" and body.get("level") in _LEVELS:
            self.tell(f"{body['level'].lower()}: {body.get('message')}")
        elif message["type"] == "TRACE":
            self._trace(body)
        elif message["type"] == "CONTROL":
            self.tell("it asks to keep a changed configuration, which ingestlab does not do: a login may run out")

    def noise(self, line: bytes) -> None:
        """Take a line that is no message, as libraries print them."""
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._noise = self._noise or self.conceal(text)[:_SHOWN]
            self.tell(text)

    def _trace(self, body: Mapping[str, Any]) -> None:
        kind = body.get("type")
        said = body.get(str(kind).lower())
        if not isinstance(said, dict):
            return
        if kind == "ERROR":
            self.fault = self._fault(said)
            self.tell(f"error: {said.get('message')}")
        elif kind == "STREAM_STATUS":
            self._status(said)
        elif kind == "ESTIMATE" and isinstance(said.get("row_estimate"), int):
            self.tell(f"about {said['row_estimate']:,} records of {said.get('name')}")

    def _status(self, said: Mapping[str, Any]) -> None:
        stream = (said.get("stream_descriptor") or {}).get("name", "")
        status = str(said.get("status"))
        if status == "INCOMPLETE":
            self.incomplete = str(stream)
        reasons = [str(reason.get("type", "")).lower() for reason in said.get("reasons") or ()]
        self.tell(" ".join([f"{stream} {status.lower()}", *(f"({reason})" for reason in reasons)]))

    def _fault(self, said: Mapping[str, Any]) -> IngestError:
        """Translate an error that the connector explains itself."""
        text = self.conceal(in_line(str(said.get("message") or "no message")))
        inner = self.conceal(in_line(str(said.get("internal_message") or "")))
        got = f"{text} ({inner})" if inner and inner != text else text
        if said.get("failure_type") == "config_error":
            problem, fix = f"{self.connector} refuses its configuration", "Correct `config`; its documentation helps."
            return TerminalError(problem, got=got, fix=fix, code="connector_refuses")
        return TransientError(f"{self.connector} failed", got=got, code="connector_failed")

    def failure(self, code: int, stderr: str) -> IngestError | None:
        """Judge how a connector has ended.

        Args:
            code: Its exit code.
            stderr: The last lines of its standard error.

        Returns:
            The error; None where all went well.
        """
        if self.fault:
            return self.fault
        last = self.conceal(stderr) or self._noise
        if code == 0 and self.spoke and not self.incomplete:
            return None
        if code == 0 and self.spoke:
            problem = f"{self.connector} could not read all of the stream {self.incomplete}"
            return TransientError(problem, got=last, code="connector_failed")
        if code > 128:  # a signal
            problem = f"{self.connector} was ended by signal {code - 128}"
            fix = "Was there memory enough?" if code == 137 else ""
            return TransientError(problem, got=last, fix=fix, code="connector_failed")
        if self.spoke:
            return TransientError(f"{self.connector} ended with code {code}", got=last, code="connector_failed")
        problem = f"{self.connector} does not speak the Airbyte protocol"
        wanted, got = "messages, one JSON object a line", f"exit code {code}{f', and {last}' if last else ''}"
        return TerminalError(problem, expected=wanted, got=got, code="connector_invalid")


def in_line(text: str) -> str:
    """Write a text as one line of bounded length."""
    line = " ".join(text.split())
    return f"{line[:1000]} …" if len(line) > 1000 else line
