// The console: live stream, times in the viewer's zone, theme, keys, crosshair. Every page is complete without it.
(() => {
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const kept = (key, value) => {
    try {
      if (value === undefined) return localStorage.getItem(key);
      localStorage.setItem(key, value);
    } catch { /* storage may be forbidden; then nothing is remembered */ }
    return null;
  };

  // --- times -----------------------------------------------------------------------------------------------------
  // Chosen in Settings and set by the server, or by the button below.
  let utc = root.dataset.times === "utc";
  const zone = () => (utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);
  const shapes = {
    hm: { hour: "2-digit", minute: "2-digit" },
    ms: { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 },
    hms: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
    day: { day: "numeric", month: "short" },
    full: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" },
  };
  const shown = (at, shape) =>
    new Intl.DateTimeFormat("en-GB", { ...shapes[shape], hour12: false, timeZone: zone() }).format(at);
  const ago = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return `${s} s ago`;
    return `${Math.round(s / 60)} min ago`;
  };
  function times(from = document) {
    for (const t of all("time[datetime]", from)) {
      const at = new Date(t.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const absolute = shown(at, "full");
      let text = shown(at, t.dataset.as in shapes ? t.dataset.as : "full");
      if (t.dataset.as === "ago") {
        const past = Date.now() - at.getTime();
        text = past >= 0 && past < 3600e3 ? ago(past) : absolute;
      }
      if (t.textContent !== text) t.textContent = text;
      if (t.dataset.as !== "full") t.title = `${absolute} ${zone()}`;
    }
    for (const z of all("[data-zone]", from)) z.textContent = zone();
    for (const b of all("[data-utc]", from)) {
      b.hidden = false;
      b.textContent = utc ? "show local" : "show UTC";
    }
  }
  document.addEventListener("click", (e) => {
    if (!e.target.closest("[data-utc]")) return;
    utc = !utc;
    document.cookie = `campanile-utc=${utc ? "1" : "0"};path=/;max-age=31536000;samesite=lax`;
    times();
  });

  // --- theme -----------------------------------------------------------------------------------------------------
  const theme = one("#theme");
  const order = ["system", "light", "dark"];
  function dress(next) {
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    document.cookie = `campanile-theme=${next};path=/;max-age=31536000;samesite=lax`;
    theme.setAttribute("aria-label", `Theme: ${next === "system" ? "follows the system" : next}`);
  }
  const cycle = () => dress(order[(order.indexOf(root.dataset.theme ?? "system") + 1) % 3]);
  if (theme) {
    theme.hidden = false;
    theme.setAttribute("aria-label", `Theme: ${root.dataset.theme ?? "follows the system"}`);
    theme.addEventListener("click", cycle);
  }

  // --- live ------------------------------------------------------------------------------------------------------
  const stream = one("#stream[hx-sse\\:connect]:not([hx-sse\\:connect=''])");
  const live = one("#live");
  const spoken = one("#spoken");
  let on = true;
  let heard = Date.now();
  let saidLast = one("#say")?.textContent.trim();
  function word(text, lost) {
    live.lastElementChild.textContent = text;
    live.classList.toggle("lost", lost);
    root.classList.toggle("stale", lost);
  }
  const state = () => (on ? word("Live", false) : word("Paused", false));
  if (live && stream) {
    live.hidden = false;
    live.addEventListener("click", () => {
      on = !on;
      live.setAttribute("aria-pressed", String(on));
      state();
      // What was missed meanwhile comes with the snapshot of a new connection.
      if (on) location.reload();
    });
    stream.addEventListener("htmx:sse:before:message", (e) => {
      heard = Date.now();
      if (on) state();
      else e.preventDefault();
    });
    stream.addEventListener("beat", () => {
      heard = Date.now();
      if (on) state();
    });
    stream.addEventListener("htmx:sse:after:message", () => {
      dressUp();
      const said = one("#say")?.textContent.trim();
      if (spoken && said !== saidLast) spoken.textContent = said ?? "";
      saidLast = said;
    });
    setInterval(() => {
      if (on && !document.hidden && Date.now() - heard > 5000) word(`Reconnecting, as of ${shown(heard, "hms")}`, true);
    }, 500);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) heard = Date.now();
    });
  }

  // --- crosshair: reads the plotted values back from the paths, so a plot needs no second copy of its data ------------
  function plots() {
    for (const plot of all(".plot.big")) {
      if (plot.dataset.ready) continue;
      plot.dataset.ready = "1";
      const cross = one(".cross", plot);
      plot.addEventListener("pointermove", (e) => {
        const top = Number(plot.dataset.top);
        const values = (name) => {
          const found = new Map();
          for (const m of (one(name, plot)?.getAttribute("d") ?? "").matchAll(/[ML]([\d.]+) ([\d.]+)/g)) {
            found.set(Number(m[1]), (top * (100 - Number(m[2]))) / 100);
          }
          return found;
        };
        const width = one("svg", plot).viewBox.baseVal.width;
        const box = plot.getBoundingClientRect();
        const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
        const i = Math.round(share * width);
        const at = new Date(Number(plot.dataset.start) + i * Number(plot.dataset.step));
        const figure = (v) => (v === undefined ? "–" : `${v.toFixed(1)} /s`);
        const column = Math.min(59, Math.floor(share * 60));
        let out = one("output", cross);
        if (!out) {
          out = document.createElement("output");
          cross.append(out);
        }
        cross.hidden = false;
        // A class, since the policy allows no inline style from markup; the style object is ours to set.
        cross.style.left = `${share * 100}%`;
        cross.classList.toggle("l", column > 42);
        out.textContent = `${shown(at, "hms")}\ndelivered ${figure(values(".l1").get(i))}\naccepted  ${figure(values(".l2").get(i))}`;
      });
      plot.addEventListener("pointerleave", () => { cross.hidden = true; });
    }
  }

  // --- histogram: a drag over several bars opens the time of all of them --------------------------------------------------
  function zoom() {
    for (const plot of all(".plot.hist")) {
      if (plot.dataset.ready) continue;
      plot.dataset.ready = "1";
      const bars = () => all("svg a", plot);
      const under = (e) => {
        const box = plot.getBoundingClientRect();
        const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
        return Math.min(bars().length - 1, Math.floor(share * bars().length));
      };
      let from = null;
      const mark = (a, b) => bars().forEach((bar, i) => bar.classList.toggle("in", i >= Math.min(a, b) && i <= Math.max(a, b)));
      // A bar is a link: it must not be carried away.
      plot.addEventListener("dragstart", (e) => e.preventDefault());
      plot.addEventListener("pointerdown", (e) => {
        from = e.button === 0 && bars().length ? under(e) : null;
      });
      plot.addEventListener("pointermove", (e) => {
        if (from === null || (under(e) === from && !plot.hasPointerCapture(e.pointerId))) return;
        plot.setPointerCapture(e.pointerId);
        mark(from, under(e));
      });
      plot.addEventListener("pointercancel", () => { from = null; mark(-1, -1); });
      plot.addEventListener("pointerup", (e) => {
        const dragged = from !== null && plot.hasPointerCapture(e.pointerId);
        const [first, last] = dragged ? [Math.min(from, under(e)), Math.max(from, under(e))] : [0, 0];
        from = null;
        if (!dragged) return;
        // The first bar's address with the last one's end.
        const to = new URL(bars()[first].href.baseVal, location);
        const end = new URL(bars()[last].href.baseVal, location).searchParams.get("q")?.match(/until:\S+/);
        if (!end) return;
        to.searchParams.set("q", to.searchParams.get("q").replace(/until:\S+/, end[0]));
        location.assign(to);
      });
    }
  }

  // --- tables: selection ---------------------------------------------------------------------------------------------
  function selected(form) {
    const n = all("tbody input[type=checkbox]:checked", form).length;
    for (const bar of all("[data-bulk]", form)) bar.hidden = n === 0;
    for (const label of all("[data-selected]", form)) label.textContent = `${n} selected`;
  }
  document.addEventListener("change", (e) => {
    const form = e.target.closest("form[data-rows]");
    if (!form) return;
    if (e.target.matches("[data-all]")) {
      for (const box of all("tbody input[type=checkbox]", form)) box.checked = e.target.checked;
    }
    selected(form);
  });

  // --- asks before dangerous actions: the server asks the same on a page of its own where scripts are off ----------------
  function ask(form, button) {
    const { ask: title, then: consequence, word } = { ...form.dataset, ...button?.dataset };
    const make = (tag, into, props) => into.appendChild(Object.assign(document.createElement(tag), props));
    const dialog = make("dialog", document.body, { className: "sure" });
    const box = make("form", dialog, { method: "dialog" });
    make("h2", box, { textContent: title, id: "h-sure" });
    dialog.setAttribute("aria-labelledby", "h-sure");
    if (consequence) make("p", box, { textContent: consequence });
    const input = word && make("input", make("label", box, { className: "form", textContent: `Type ${word} to go on` }),
      { className: "field", autocomplete: "off", spellcheck: false });
    const acts = make("div", box, { className: "acts" });
    make("button", acts, { className: "btn", value: "", textContent: "Keep" });
    const yes = make("button", acts, { className: "btn danger", value: "yes", textContent: button?.textContent.trim() || "Go on", disabled: Boolean(word) });
    input?.addEventListener("input", () => { yes.disabled = input.value !== word; });
    box.addEventListener("submit", (e) => { if (e.submitter === yes && yes.disabled) e.preventDefault(); });
    dialog.addEventListener("close", () => {
      dialog.remove();
      button?.focus();
      if (dialog.returnValue !== "yes") return;
      const answers = [["sure", "1"], ["word", word ?? ""]].map(([name, value]) => make("input", form, { type: "hidden", name, value }));
      form.dataset.sure = "1";
      form.requestSubmit(button);
      delete form.dataset.sure;
      // The form may be used again: what it said this time is not said for ever.
      setTimeout(() => answers.forEach((a) => a.remove()));
    });
    dialog.showModal();
    (input || acts.firstElementChild).focus();
  }
  // Captured, so that it comes before whoever sends the form.
  document.addEventListener("submit", (e) => {
    if (!(e.submitter?.dataset.ask ?? e.target.dataset.ask) || e.target.dataset.sure) return;
    e.preventDefault();
    e.stopImmediatePropagation();
    ask(e.target, e.submitter);
  }, true);

  // --- messages: those that offer to undo stay ten seconds, good news six, bad news until it is read -------------------------
  function toasts() {
    for (const toast of all("#toasts .toast:not([data-seen])")) {
      toast.dataset.seen = "1";
      const close = Object.assign(document.createElement("button"), { type: "button", className: "icb", textContent: "×" });
      close.setAttribute("aria-label", "Dismiss");
      close.addEventListener("click", () => toast.remove());
      toast.append(close);
      if (!toast.classList.contains("bad")) setTimeout(() => toast.remove(), one("form", toast) ? 10_000 : 6_000);
    }
  }
  // --- copy ------------------------------------------------------------------------------------------------------------
  document.addEventListener("click", async (e) => {
    const button = e.target.closest("[data-copy]");
    if (!button) return;
    const what = button.dataset.copy.startsWith("#") ? one(button.dataset.copy)?.textContent : button.dataset.copy;
    try {
      await navigator.clipboard.writeText(what ?? "");
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    } catch {
      button.textContent = "Select and copy";
    }
  });

  // --- keys: off while typing, and switched off for good in Settings -------------------------------------------------------
  let go = 0;
  const rows = () => all("tbody tr, .tail li").filter((r) => one("a, input", r));
  const row = () => document.activeElement?.closest("tbody tr, .tail li");
  function step(by) {
    const list = rows();
    const at = list.indexOf(row());
    const next = list[Math.min(list.length - 1, Math.max(0, at + by))];
    if (next) one("a, input", next).focus();
  }
  const press = (selector, from = document) => one(selector, from)?.click();
  const keys = {
    "/": () => one("[aria-keyshortcuts='/']")?.focus(),
    "?": () => one("#help")?.showModal(),
    t: cycle,
    p: () => live?.click(),
    g: () => { go = Date.now(); },
    j: () => step(1),
    k: () => step(-1),
    x: () => row() && press("input[type=checkbox]", row()),
    r: () => press("[data-key=r]", row() && one("[data-key=r]", row()) ? row() : document),
    c: () => press("[data-key=c]"),
    ".": () => row() && one(".acts a, .acts button, summary", row())?.focus(),
    "[": () => press("[rel=prev]"),
    "]": () => press("[rel=next]"),
    Escape: () => press("[data-key=Escape]"),
  };
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && e.target.matches("input, textarea, select")) return e.target.blur();
    if (e.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog")) return;
    if (e.metaKey || e.ctrlKey || e.altKey || root.dataset.keys === "off") return;
    if (go && Date.now() - go < 1000) {
      go = 0;
      e.preventDefault();
      return press(`[aria-keyshortcuts="g ${CSS.escape(e.key)}"]`);
    }
    if (e.key === "Enter" && e.target.matches("tr input[type=checkbox]")) {
      // Else the browser presses the form's first button, too.
      e.preventDefault();
      return press("a", row());
    }
    if (/^[1-9]$/.test(e.key)) one(`[data-lane="${e.key}"]`)?.focus();
    if (!Object.hasOwn(keys, e.key)) return;
    // What is written in a link or button is its own.
    e.preventDefault();
    keys[e.key]();
  });

  // --- what only scripts can do is there only with them ------------------------------------------------------------------
  function dressUp() {
    for (const hidden of all("[data-copy][hidden], [data-script][hidden]")) hidden.hidden = false;
    times();
    plots();
    zoom();
    toasts();
    all("form[data-rows]").forEach(selected);
  }
  document.addEventListener("htmx:after:swap", dressUp);
  dressUp();
})();
