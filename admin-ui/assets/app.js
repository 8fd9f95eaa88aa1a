// The console: live stream, times in the viewer's zone, theme, keys, crosshair, what was typed when a session ended. Every page
// is complete without it.
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
  const cycle = () => theme && dress(order[(order.indexOf(root.dataset.theme ?? "system") + 1) % 3]);
  if (theme) {
    theme.hidden = false;
    theme.setAttribute("aria-label", `Theme: ${root.dataset.theme ?? "follows the system"}`);
    theme.addEventListener("click", cycle);
  }

  // --- a session that ended: the page stays as it is, and what was typed outlives the way to the sign-in and back ------------
  const ticks = (field) => ["checkbox", "radio"].includes(field.type);
  const secret = (field) => field.type === "password" || /password|one-time-code/.test(field.autocomplete);
  const typeless = ["hidden", "submit", "button", "file", "fieldset"];
  const fields = (form) => [...form.elements].filter((f) => f.name && !secret(f) && !typeless.includes(f.type));
  const typedKey = `campanile-typed ${location.pathname}${location.search}`;
  function isTyped(field) {
    if (field.options) return [...field.options].some((o) => o.selected !== o.defaultSelected);
    return ticks(field) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  }
  /** A field is found again by its form's target, its name and, where several have that name, its value or its place. */
  function place(field) {
    return ticks(field) ? `=${field.value}` : String(fields(field.form).filter((f) => f.name === field.name).indexOf(field));
  }
  function keepTyped() {
    const typed = all("main form").flatMap((form) => fields(form).filter(isTyped).map((f) => (
      { form: form.getAttribute("action"), name: f.name, at: place(f), value: f.value, checked: f.checked })));
    try {
      sessionStorage.setItem(typedKey, JSON.stringify(typed));
    } catch { /* then it is lost, as it would be without a script */ }
  }
  function putBack() {
    let typed = [];
    try {
      typed = JSON.parse(sessionStorage.getItem(typedKey) ?? "[]");
      // Whatever brought us here: a form that was taken needs nothing put back later.
      sessionStorage.removeItem(typedKey);
    } catch { /* storage may be forbidden */ }
    if (!document.referrer || new URL(document.referrer).pathname !== "/admin/sign-in") return;
    const every = all("main form").flatMap(fields);
    for (const t of typed) {
      const field = every.find((f) => f.form.getAttribute("action") === t.form && f.name === t.name && place(f) === t.at);
      if (!field) continue;
      if (ticks(field)) field.checked = t.checked;
      else field.value = t.value;
      field.closest("details")?.setAttribute("open", "");
    }
  }
  const banner = one("#ended");
  let ended = false;
  function sessionEnded() {
    if (ended) return;
    ended = true;
    const link = one("a", banner);
    link.href = `/admin/sign-in?${new URLSearchParams({ back: location.pathname + location.search })}`;
    link.addEventListener("click", keepTyped);
    banner.hidden = false;
    word("Signed out", true);
  }
  if (banner) {
    putBack();
    // A form that is sent whole leaves the page: whether the session still stands is known only then.
    document.addEventListener("submit", (e) => {
      if (e.target.method === "post" && !e.target.hasAttribute("hx-post")) keepTyped();
    });
    document.addEventListener("htmx:sse:error", (e) => e.detail.status === 401 && sessionEnded());
    // Kept from htmx, which would leave the page at once.
    document.addEventListener("htmx:before:response", (e) => {
      if (e.detail.ctx.response.status !== 401) return;
      e.preventDefault();
      sessionEnded();
    });
    document.addEventListener("htmx:sse:before:connection", (e) => ended && e.preventDefault());
  }

  // --- live ------------------------------------------------------------------------------------------------------
  const stream = one("#stream[hx-sse\\:connect]:not([hx-sse\\:connect=''])");
  const live = one("#live");
  const spoken = one("#spoken");
  let on = true;
  let heard = Date.now();
  let connection = null;
  let saidLast = one("#say")?.textContent.trim();
  function word(text, lost) {
    if (live) live.lastElementChild.textContent = text;
    live?.classList.toggle("lost", lost);
    root.classList.toggle("stale", lost);
  }
  const state = () => (on ? word("Live", false) : word("Paused", false));
  if (live && stream) {
    live.hidden = false;
    live.addEventListener("click", () => {
      if (ended) return;
      on = !on;
      live.setAttribute("aria-pressed", String(on));
      heard = Date.now();
      state();
      // What was missed meanwhile comes with the snapshot of a new connection: the old one is let go, and the next is opened as
      // after any break. The page itself stays, with what was typed and ticked in it.
      if (on) connection?.reader?.cancel();
    });
    stream.addEventListener("htmx:sse:after:connection", (e) => { connection = e.detail.connection; });
    // The extension takes up again what was open once; a first try that fails is ours.
    const open = () => htmx.ajax("GET", stream.getAttribute("hx-sse:connect"), { source: stream });
    const again = () => connection || ended || setTimeout(open, 3000);
    stream.addEventListener("htmx:error", again);
    stream.addEventListener("htmx:response:error", again);
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
      const silent = on && !ended && !document.hidden && Date.now() - heard > 5000;
      if (silent) word(`Reconnecting, as of ${shown(heard, "hms")}`, true);
    }, 500);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) heard = Date.now();
    });
  }

  // --- crosshair: lines and bands are read back from their paths, so that those need no second copy of their data; bars, which
  // are never lower than can be seen, bring their values along ------------------------------------------------------------------
  const dressed = new WeakSet();
  const first = (element) => !dressed.has(element) && Boolean(dressed.add(element));
  const points = (path) =>
    [...(path.getAttribute("d") ?? "").matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
  /** What a plot shows at this share of its width: name and value of each of its lines, bands and bars. */
  function readings(plot, share) {
    const width = one("svg", plot).viewBox.baseVal.width;
    const { unit } = plot.dataset;
    const [base, top] = [Number(plot.dataset.base ?? 0), Number(plot.dataset.top)];
    const figure = (v) => {
      if (v === undefined) return "–";
      if (unit === "ms") return `${Math.round(v)} ms`;
      return unit ? `${v === 0 ? 0 : v.toFixed(v < 1 ? 2 : 1)} ${unit}` : Math.round(v).toLocaleString("en");
    };
    return all("path[data-name]", plot).map((path) => {
      const { name, bars, band } = path.dataset;
      if (bars !== undefined) {
        const values = bars.split(" ");
        return [name, figure(Number(values[Math.min(values.length - 1, Math.floor(share * width))]))];
      }
      const at = points(path).filter(([x]) => x === Math.round(share * width)).map(([, y]) => base + ((top - base) * (100 - y)) / 100);
      // A band has its upper edge there and its lower one; one that is empty is not drawn at all.
      return [name, figure(band === undefined ? at[0] : at.length === 2 ? at[0] - at[1] : 0)];
    });
  }
  /** What happened about there: not every mark has room for its words. */
  function happened(plot, share) {
    const width = one("svg", plot).viewBox.baseVal.width;
    return all("path[data-mark]", plot)
      .filter((path) => points(path).some(([x]) => Math.abs(x / width - share) < 0.012))
      .map(({ dataset }) => [dataset.mark, shown(new Date(Number(dataset.at)), "hm")]);
  }
  function plots() {
    for (const cross of all(".plot > .cross")) {
      if (!first(cross)) continue;
      const lead = cross.parentElement;
      // Plots that stand on each other share their axis, and the one line through them.
      const stack = all(".plot[data-top]", cross.closest("section"));
      const move = (e) => {
        const box = lead.getBoundingClientRect();
        const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
        const at = new Date(Number(lead.dataset.start) + share * (lead.dataset.end - lead.dataset.start));
        const rows = [...stack.flatMap((plot) => readings(plot, share)), ...happened(lead, share)];
        let out = one("output", cross);
        if (!out) {
          out = document.createElement("output");
          cross.append(out);
        }
        cross.hidden = false;
        // The policy allows no inline style from markup; the style object is ours to set.
        cross.style.left = `${share * 100}%`;
        cross.style.bottom = `${box.bottom - stack.at(-1).getBoundingClientRect().bottom}px`;
        cross.classList.toggle("l", share > 0.6);
        const line = (tag, texts) => {
          const row = document.createElement("span");
          row.append(...texts.map((textContent) => Object.assign(document.createElement(tag), { textContent })));
          return row;
        };
        const days = lead.dataset.end - lead.dataset.start > 86400e3;
        out.replaceChildren(line("b", [shown(at, days ? "full" : "hms")]), ...rows.map((texts) => line("i", texts)));
      };
      for (const plot of stack) {
        plot.addEventListener("pointermove", move);
        plot.addEventListener("pointerleave", () => { cross.hidden = true; });
      }
    }
  }

  // --- histogram: a drag over several bars opens the time of all of them --------------------------------------------------
  function zoom() {
    for (const plot of all(".plot.hist")) {
      if (!first(plot)) continue;
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
    const everything = one("[data-everything]", form)?.checked;
    for (const label of all("[data-selected]", form)) label.textContent = everything ? "All selected" : `${n} selected`;
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
    // An ask about what is selected says how many that is.
    const n = all("tbody input[type=checkbox]:checked", form).length;
    make("h2", box, { textContent: title.replace("{n}", n), id: "h-sure" });
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
    // Of how many it is known only by counting: the server asks.
    if (one("[data-everything]:checked", e.target)) return;
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
    // A button that is a picture says it with another picture.
    const icon = one("use", button);
    const label = icon ? button.getAttribute("aria-label") : button.textContent;
    const say = (text, picture) => {
      if (!icon) button.textContent = text;
      else {
        button.setAttribute("aria-label", text);
        icon.setAttribute("href", picture);
      }
    };
    try {
      await navigator.clipboard.writeText(what ?? "");
      say("Copied", "#i-ok");
      setTimeout(() => say(label, "#i-copy"), 1500);
    } catch {
      say("Select and copy", "#i-bad");
    }
  });

  // --- the way through a list: the page of one item knows what stood beside it in the list that it was opened from -----------
  const pathOf = (href) => new URL(href, location).pathname;
  document.addEventListener("click", (e) => {
    const link = e.target.closest("tbody th a, tbody td a");
    if (!link) return;
    const column = link.closest("th, td").cellIndex;
    const rows = all("tbody tr", link.closest("table"));
    const items = rows.map((r) => r.cells[column] && one("a", r.cells[column])?.href).filter(Boolean);
    try {
      sessionStorage.setItem("campanile-list", JSON.stringify({ from: location.href, items }));
    } catch { /* then the item's page has no neighbours */ }
  });
  function beside() {
    const nav = one("#beside");
    let list = null;
    try {
      list = JSON.parse(sessionStorage.getItem("campanile-list"));
    } catch { /* storage may be forbidden */ }
    const own = (href) => pathOf(href) === location.pathname;
    if (!nav || !list?.items.some(own)) return;
    const back = one("[data-key=Escape]");
    // With the filters that it had, if it is the list that the way back leads to.
    if (back && pathOf(list.from) === pathOf(back.href)) back.href = list.from;
    const at = list.items.map(own);
    const beside = { prev: list.items[at.indexOf(true) - 1], next: list.items[at.lastIndexOf(true) + 1] };
    for (const [rel, href] of Object.entries(beside)) {
      const link = one(`[rel=${rel}]`, nav);
      if (href) link.href = href;
      link.hidden = !href;
    }
    nav.hidden = !beside.prev && !beside.next;
  }
  beside();

  // --- keys: off while typing, and switched off for good in Settings -------------------------------------------------------
  let go = 0;
  const rows = () => all("tbody tr, .tail li").filter((r) => one("a, input, button", r));
  const row = () => document.activeElement?.closest("tbody tr, .tail li");
  function step(by) {
    const list = rows();
    const at = list.indexOf(row());
    const next = list[Math.min(list.length - 1, Math.max(0, at + by))];
    if (next) one("a, input, button", next).focus();
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
    ".": () => row() && one("td :is(button, a.btn), summary", row())?.focus(),
    "[": () => press("[rel=prev][href]"),
    "]": () => press("[rel=next][href]"),
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
  // Sent by the scripts of the development pages, which fetch what is new by themselves.
  document.addEventListener("campanile:drawn", dressUp);
  dressUp();

  // On a phone the menu is one line: the page's own entry is brought into it.
  const here = one(".side [aria-current]");
  const menu = here?.closest("nav");
  const bring = () => { menu.scrollLeft = here.offsetLeft - (menu.clientWidth - here.offsetWidth) / 2; };
  if (menu) {
    bring();
    addEventListener("resize", bring);
  }
})();
