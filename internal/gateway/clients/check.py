"""Runs the official client for Python against a gateway: python check.py ADDRESS KEY LIMITED"""
import sys

import openai

address, key, limited = sys.argv[1:]
client = openai.OpenAI(base_url=address + "/v1", api_key=key, max_retries=0)


def ask(content, of=client, **more):
    return of.chat.completions.create(**{"model": "docs", "messages": [{"role": "user", "content": content}], **more})


whole = ask("hello")
assert whole.choices[0].message.content == "hello there" and whole.usage.total_tokens == 5, whole

text, usage, finish = "", None, None
for chunk in ask("hello", stream=True, stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    usage = chunk.usage or usage
assert (text, finish, usage.total_tokens) == ("hello there", "stop", 5), (text, finish, usage)

tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
assert ask("use a tool", tools=tools).choices[0].message.tool_calls[0].function.arguments == '{"city": "Ulm"}'
arguments = ""
for chunk in ask("use a tool", tools=tools, stream=True):
    for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
        arguments += call.function.arguments or ""
assert arguments == '{"city": "Ulm"}', arguments

assert client.completions.create(model="docs", prompt="hello").choices[0].text == "hello there"
vectors = client.embeddings.create(model="docs", input=["a", "b"], encoding_format="float")
assert [d.embedding for d in vectors.data] == [[1, 0.5], [0, 1]], vectors
assert client.images.generate(model="docs", prompt="a cat").data[0].b64_json == "AAAA"
assert [m.id for m in client.models.list()] == ["docs"]
assert client.models.retrieve("docs").id == "docs"


def fails(status, call):
    try:
        call()
    except openai.APIStatusError as e:
        assert e.status_code == status, e
        assert e.code and e.type and e.message, e
        return
    raise AssertionError(f"{status} was expected")


fails(404, lambda: ask("hello", model="other"))
fails(404, lambda: client.models.retrieve("other"))
fails(413, lambda: ask("x" * 200000))
fails(400, lambda: ask("hello", max_tokens=-1))
fails(503, lambda: ask("busy"))
few = client.with_options(api_key=limited)
ask("hello", of=few)
fails(429, lambda: ask("hello", of=few))
fails(401, lambda: ask("hello", of=client.with_options(api_key="refit-wrong")))

# The client tells the gateway its time, so both clocks run for as long: whichever ends first, the
# time is over.
try:
    ask("wait", of=client.with_options(timeout=0.2))
    raise AssertionError("a time-out was expected")
except openai.APITimeoutError:
    pass
except openai.InternalServerError as e:
    assert e.status_code == 504, e
stream = ask("wait", stream=True)
next(iter(stream))
stream.close()
print("openai-python: all well")
