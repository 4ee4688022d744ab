"""The hook of orders wakes the followers, and nobody without its secret does."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from fhir_gateway.following import CHANNEL, listen
from fhir_gateway.orders.hook import router


@pytest.fixture
async def client(postgres):
    app = FastAPI()
    app.include_router(router(postgres.dsn("postgres"), "a secret"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hook") as opened:
        yield opened


@pytest.fixture
async def heard(postgres):
    found: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(
        listen(postgres.dsn("postgres"), (CHANNEL,), lambda channel, _: found.put_nowait(channel))
    )
    await asyncio.wait_for(found.get(), 10)  # it listens
    yield found
    listening.cancel()


async def test_calls_within_a_moment_wake_the_followers_once(client, heard):
    shown = {"X-Hilum-Hook": "a secret"}

    answers = [await client.post("/hooks/orders", headers=shown) for _ in range(5)]

    assert {answer.status_code for answer in answers} == {202}
    assert await asyncio.wait_for(heard.get(), 10) == CHANNEL
    assert heard.empty()


@pytest.mark.parametrize("headers", [{}, {"X-Hilum-Hook": "wrong"}])
async def test_a_call_without_the_secret_wakes_nobody(client, heard, headers):
    posted = await client.post("/hooks/orders", headers=headers)
    put = await client.put("/hooks/orders/ServiceRequest/1", headers=headers)

    assert (posted.status_code, put.status_code) == (401, 401)
    assert heard.empty()
