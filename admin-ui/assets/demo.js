// The demo's two people. Each pane is a plain WebSocket client of the v1 protocol: hello, resume, list, mark, counts.
// Everything a notification holds is written as text.
"use strict";

const log = document.getElementById("log");
const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function note(who, what, tone) {
  const row = element("li");
  row.append(element("span", "", clock(Date.now())), element("span", "who", who), element("span", `what ${tone ?? ""}`, what));
  log.prepend(row);
  while (log.childElementCount > 200) log.lastChild.remove();
}

class Pane {
  constructor(root) {
    this.user = root.dataset.user;
    this.token = root.dataset.token;
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.items = new Map();
    // Where this client stands in the feed: what it has shown, and of which life of the feed.
    this.epoch = null;
    this.cursor = 0;
    this.tries = 0;
    this.cut = false;
    this.part("cut").addEventListener("change", (event) => this.setCut(event.target.checked));
    this.part("all").addEventListener("click", () => this.send({ type: "mark", up_to_seq: this.cursor, as: "read" }));
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    if (this.cut || !this.token) return;
    this.show("off", "connecting");
    const url = new URL("/ws/notifications", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("v", "1");
    if (this.epoch !== null) {
      url.searchParams.set("epoch", this.epoch);
      url.searchParams.set("since", this.cursor);
    }
    this.replayed = 0;
    const socket = (this.socket = new WebSocket(url, ["campanile.v1", `bearer.${this.token}`]));
    socket.addEventListener("message", (event) => socket === this.socket && this.receive(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => socket === this.socket && this.closed(event));
  }

  send(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  receive({ type, seq, data }) {
    switch (type) {
      case "hello":
        this.tries = 0;
        this.resuming = this.epoch !== null;
        this.show("ok", "live");
        this.counts(data.counts);
        if (!this.resuming) {
          this.epoch = data.epoch;
          this.cursor = data.head_seq;
          this.send({ type: "list", limit: 30 });
          this.note("hello");
        }
        break;
      case "notification":
        // What was sent with persist:false has no place in the feed.
        if (seq === undefined) return this.note(`passing: ${data.title}`);
        if (seq <= this.cursor && this.items.has(data.notification_id)) return;
        this.cursor = Math.max(this.cursor, seq);
        if (this.resuming) this.replayed += 1;
        this.add({ ...data, seq, read_at: null }, true);
        this.send({ type: "ack", seq });
        this.note(`notification “${data.title}”`);
        break;
      case "resumed":
        this.resuming = false;
        this.cursor = Math.max(this.cursor, data.to);
        this.show("ok", this.replayed ? `live, resumed ${this.replayed}` : "live");
        this.note(`resumed ${this.replayed}`, "good");
        // Marks made while away are not replayed: ask for the page anew.
        this.send({ type: "list", limit: 30 });
        break;
      case "reset":
        this.resuming = false;
        this.epoch = data.epoch;
        this.cursor = data.head_seq;
        this.items.clear();
        this.counts(data.counts);
        this.send({ type: "list", limit: 30 });
        this.note(`reset: ${data.reason}`, "warn");
        break;
      case "list":
        for (const item of data.items.toReversed()) this.add(item, false);
        this.draw();
        break;
      case "marked":
        this.marked(data);
        this.note(`marked ${data.as}`);
        break;
      case "counts":
        this.counts(data);
        break;
      case "bye":
        this.wait = data.after_ms + Math.random() * data.spread_ms;
        this.note("bye: the server is going away", "warn");
        break;
      case "error":
        this.note(`error ${data.code}: ${data.message}`, "warn");
        break;
    }
  }

  closed(event) {
    if (this.cut) return;
    this.socket = null;
    this.note(`closed ${event.code}`, "warn");
    if (event.code === 4401) {
      this.show("bad", "the token is over; reload the page");
      return;
    }
    if (event.code === 4403 || event.code === 4409) {
      this.show("bad", `closed for good (${event.code})`);
      return;
    }
    // Full jitter: many clients of one server must not come back in step.
    const wait = this.wait ?? 250 + Math.random() * Math.min(30_000, 500 * 2 ** this.tries++);
    this.wait = undefined;
    this.show("warn", "connecting again");
    this.timer = setTimeout(() => this.connect(), wait);
  }

  setCut(cut) {
    this.cut = cut;
    if (cut) {
      clearTimeout(this.timer);
      const socket = this.socket;
      this.socket = null;
      socket?.close();
      this.show("warn", "network cut");
      this.note("network cut", "warn");
    } else {
      this.note("network back");
      this.connect();
    }
    this.part("all").disabled = cut || this.unread === 0;
  }

  add(item, fresh) {
    this.items.set(item.notification_id, { ...this.items.get(item.notification_id), ...item, fresh });
    if (fresh) this.draw();
  }

  marked({ ids, up_to_seq: upTo, as }) {
    for (const item of this.items.values()) {
      if (ids ? !ids.includes(item.notification_id) : item.seq > upTo) continue;
      if (as === "read") item.read_at ??= new Date().toISOString();
      if (as === "unread") item.read_at = null;
      if (as === "archived") this.items.delete(item.notification_id);
    }
    this.draw();
  }

  counts({ unread }) {
    this.unread = unread;
    this.part("unread").textContent = unread;
    this.part("badge").hidden = unread === 0;
    this.part("all").disabled = this.cut || unread === 0;
  }

  draw() {
    const newest = [...this.items.values()].sort((a, b) => b.seq - a.seq);
    this.part("feed").replaceChildren(...newest.map((item) => this.row(item)));
    this.part("empty").hidden = newest.length > 0;
  }

  row(item) {
    const row = element("li", item.read_at ? "read" : "");
    const type = item.notification_type === "general" ? "" : ` · ${item.notification_type}`;
    row.append(element("span", "dot"), element("span", "title", item.title));
    if (item.message) row.append(element("span", "text", item.message));
    row.append(element("span", "meta", `${clock(item.timestamp)} · #${item.seq}${type}`));
    if (item.read_at) {
      row.append(element("span", "vh", "read"));
    } else {
      const mark = element("button", "btn mark", "Mark read");
      mark.type = "button";
      mark.setAttribute("aria-label", `Mark read: ${item.title}`);
      mark.addEventListener("click", () => this.send({ type: "mark", ids: [item.notification_id], as: "read" }));
      row.append(mark);
    }
    if (item.fresh) {
      item.fresh = false;
      row.classList.add("fresh");
      setTimeout(() => row.classList.remove("fresh"), 900);
    }
    return row;
  }

  show(tone, text) {
    const state = this.part("state");
    state.className = `st ${tone}`;
    state.lastElementChild.textContent = text;
  }

  note(what, tone) {
    note(this.user, `${what}  ${this.epoch ?? "–"}:${this.cursor}`, tone);
  }
}

for (const root of document.querySelectorAll("[data-user]")) new Pane(root);

const form = document.getElementById("send");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const sent = document.getElementById("sent");
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        to: fields.get("to"),
        title: fields.get("title"),
        message: fields.get("message"),
        notification_type: fields.get("notification_type") || "general",
        channels: fields.getAll("channels"),
      }),
    });
    const answer = await response.json();
    sent.classList.toggle("bad", !response.ok);
    sent.textContent = response.ok ? "accepted" : answer.detail;
    if (response.ok) note("app", `accepted ${answer.notification_id}`);
  } catch {
    sent.classList.add("bad");
    sent.textContent = "no answer from the server";
  } finally {
    button.disabled = false;
  }
});

document.getElementById("copy").addEventListener("click", async (event) => {
  const label = event.currentTarget.lastElementChild;
  await navigator.clipboard.writeText(document.getElementById("snippet").textContent);
  label.textContent = "Copied";
  setTimeout(() => (label.textContent = "Copy"), 1500);
});
