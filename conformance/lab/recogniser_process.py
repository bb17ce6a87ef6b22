"""A recogniser in a process of its own.

PocketSphinx keeps the interpreter's lock while it decodes (0.4 s for a long utterance), which would stop every frame of
every call in the process.  So it runs in a child: utterances go in on standard input, each a length and its samples,
words come back as lines of JSON.  The child ends when its input does, also when the parent was killed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from conformance.lab.speech import GRAMMAR_CARDS, CardRecogniser, SpeechError

__all__ = ["RecogniserProcess", "serve"]

_LENGTH = struct.Struct("<I")
MAX_BYTES = 4 << 20
"""Two minutes of 16 kHz audio, eight times the longest utterance."""
END_DEADLINE_S = 2.0


class RecogniserProcess:
    """Same ``recognise`` as `CardRecogniser`; blocking, so call it from a worker thread.  ``close`` ends the child."""

    def __init__(self, grammar: Path = GRAMMAR_CARDS) -> None:
        """Returns when the child has loaded its model.  Raises SpeechError."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.lab.recogniser_process", str(grammar)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        try:
            self._read_answer()
        except SpeechError:
            self.close()
            raise

    def recognise(self, pcm: npt.NDArray[np.int16]) -> str:
        """The words of one utterance, int16 at 16 kHz.  Raises SpeechError when the child is gone."""
        data = pcm.astype("<i2").tobytes()
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(_LENGTH.pack(len(data)) + data)
                self._process.stdin.flush()
            except (OSError, ValueError) as error:
                raise SpeechError("the recogniser's process has ended") from error
            return self._read_answer()

    def _read_answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SpeechError("the recogniser's process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise SpeechError(str(answer["error"]))
        return str(answer["words"])

    def close(self) -> None:
        """Ends the child; harmless when it has ended."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:  # it was killed with something unread
                self._process.stdin = None
        try:
            self._process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def serve(grammar: Path, source: BinaryIO, sink: BinaryIO) -> None:
    """The child: answers until ``source`` ends or breaks the framing."""

    def answer(**fields: str) -> None:
        sink.write(json.dumps(fields).encode() + b"\n")
        sink.flush()

    try:
        recogniser = CardRecogniser(grammar)
    except SpeechError as error:
        answer(error=str(error))
        return
    answer(words="")
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        (size,) = _LENGTH.unpack(head)
        if size > MAX_BYTES:
            answer(error=f"utterance of {size} bytes")
            return
        data = source.read(size)
        if len(data) < size:
            return
        answer(words=recogniser.recognise(np.frombuffer(data, "<i2").astype(np.int16)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends our input
    # the native library prints its complaints on standard output, in between our lines
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(Path(sys.argv[1]), sys.stdin.buffer, answers)
