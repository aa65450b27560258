"use strict";

const at = (id) => document.getElementById(id);
let messages = []; // what was said, as the server wants it
let running = null; // the AbortController of the answer that is being written

function headers() {
  const key = at("key").value.trim();
  const sent = { "Content-Type": "application/json" };
  return key ? { ...sent, Authorization: `Bearer ${key}` } : sent;
}

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "wrong" : "";
}

function show(role, text) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  const words = document.createElement("span");
  item.className = role;
  who.textContent = role === "user" ? "You" : "Model";
  words.textContent = text; // as text: a model may write HTML
  item.append(who, words);
  at("log").append(item);
  item.scrollIntoView({ block: "nearest" });
  return { item, words };
}

async function reasonOf(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server answers with status ${answer.status}.`;
  }
}

// The data of the server-sent events of an answer, one by one.
async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function body(text) {
  const system = at("system").value.trim();
  const first = system ? [{ role: "system", content: system }] : [];
  return JSON.stringify({
    messages: [...first, ...messages, { role: "user", content: text }],
    temperature: Number(at("temperature").value),
    max_tokens: Number(at("tokens").value),
    stream: true,
    stream_options: { include_usage: true },
  });
}

// Write the answer into `words` as it comes -> a line about it.
async function write(text, words) {
  let usage = null;
  let reason = null;
  const answer = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers(),
    body: body(text),
    signal: running.signal,
  });
  if (!answer.ok) throw new Error(await reasonOf(answer));
  for await (const event of eventsOf(answer)) {
    if (event.error) throw new Error(event.error.message);
    usage = event.usage ?? usage;
    for (const choice of event.choices) {
      words.textContent += choice.delta.content ?? "";
      reason = choice.finish_reason ?? reason;
    }
  }
  if (reason === null) throw new Error("The server went away.");
  const count = usage ? `${usage.completion_tokens} tokens` : "";
  return reason === "length" ? `${count}; cut at the limit` : count;
}

async function ask(text) {
  const said = messages; // "New chat" begins another list
  const mine = show("user", text);
  const reply = show("assistant", "");
  running = new AbortController();
  at("log").setAttribute("aria-busy", "true"); // read aloud when it is whole
  at("send").disabled = true;
  at("stop").disabled = false;
  say("The model writes …");
  try {
    say(await write(text, reply.words));
  } catch (error) {
    const stopped = running.signal.aborted;
    say(stopped ? "Stopped." : error.message, !stopped);
  }
  if (reply.words.textContent) {
    said.push({ role: "user", content: text });
    said.push({ role: "assistant", content: reply.words.textContent });
  } else {
    mine.item.remove();
    reply.item.remove();
    at("text").value ||= text;
  }
  running = null;
  at("log").setAttribute("aria-busy", "false");
  at("send").disabled = false;
  at("stop").disabled = true;
  at("text").focus();
}

function stop() {
  if (running) running.abort();
}

async function begin() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (!answer.ok) {
    at("settings").open = answer.status === 401;
    say(await reasonOf(answer), true);
    return;
  }
  at("model").textContent = (await answer.json()).data[0].id;
  say("");
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || running) return;
  at("text").value = "";
  ask(text);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
at("stop").addEventListener("click", stop);
at("key").addEventListener("change", () => begin().catch(() => {}));
at("new").addEventListener("click", () => {
  stop();
  messages = [];
  at("log").replaceChildren();
  say("");
  at("text").focus();
});
begin().catch((error) => say(error.message, true));
