#!/usr/bin/env bash
# A download that is resumed with If-Range and the ETag that the server itself gave, after the file has changed.
#
# Expected, by RFC 9110, 13.1.5 ("If-Range"): the ETag is another one now, so that Range is ignored and the answer is
# 200 with the whole new file.
# Seen (aiohttp 3.14.5, web.FileResponse): 206 with the end of the new file. If-Range is parsed as a date and a tag is
# none, so that Range is followed as if If-Range were not there; with Last-Modified as validator the answer is 200.
# A client that joins what it has with what it gets has half of each version, in the right length.
#
# What it means here: ingestlab compares the ETag of a 206 with that of the first part, and begins again if they differ.
# Its sample file server compares tags itself.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aiohttp==3.14.5
"$folder/venv/bin/python" - "$folder" <<'PY'
import asyncio
import os
import pathlib
import sys

import aiohttp
from aiohttp import web

FILE = pathlib.Path(sys.argv[1], "data.csv")


async def status(session: aiohttp.ClientSession, url: str, validator: str) -> tuple[int, str]:
    async with session.get(url, headers={"Range": "bytes=4-", "If-Range": validator}) as answer:
        return answer.status, await answer.text()


async def main() -> None:
    app = web.Application()
    app.router.add_get("/data.csv", lambda _request: web.FileResponse(FILE))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/data.csv"
    async with aiohttp.ClientSession() as session:
        FILE.write_text("old,old,old\n")
        os.utime(FILE, (1_700_000_000, 1_700_000_000))
        async with session.get(url) as first:
            tag, date = first.headers["ETag"], first.headers["Last-Modified"]
        same = await status(session, url, tag)
        FILE.write_text("new,new,new\n")
        os.utime(FILE, (1_700_000_100, 1_700_000_100))
        async with session.get(url) as second:
            assert second.headers["ETag"] != tag
        by_tag, by_date = await status(session, url, tag), await status(session, url, date)
    await runner.cleanup()
    print("aiohttp", aiohttp.__version__, "| unchanged:", same, "| by tag:", by_tag, "| by date:", by_date)
    assert same == (206, "old,old\n")
    assert by_date == (200, "new,new,new\n")
    assert by_tag == (206, "new,new\n")


asyncio.run(main())
PY
echo "as found: If-Range with an ETag that no longer fits is answered with a part"
