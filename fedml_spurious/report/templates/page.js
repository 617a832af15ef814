"use strict";
// Adds to a page that is readable without it: sorting, filtering, opening, and an address that keeps the view.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const number = (text) => (/^[-+]?[\d.]+$/.test(text) ? parseFloat(text) : NaN);
  const explorers = [];

  class Explorer {
    constructor(section, index) {
      this.prefix = index ? `${index}.` : "";
      this.section = section;
      this.fixed = Number(section.dataset.fixed);
      this.table = section.querySelector("table.clients");
      this.body = this.table.tBodies[0];
      this.heads = [...this.table.tHead.rows[0].cells];
      this.tools = section.querySelector(".tools");
      this.input = this.tools.querySelector("input");
      this.count = this.tools.querySelector(".count");
      this.methods = [...this.tools.querySelectorAll("[data-method]")];
      this.verdicts = [...this.tools.querySelectorAll("[data-verdict]")];
      this.worst = this.tools.querySelector("[data-worst]");
      this.style = document.head.appendChild(make("style", {}));
      const lines = [...this.body.rows];
      this.rows = [];
      for (let at = 0; at < lines.length; at += 2) this.rows.push(this.prepare(lines[at], lines[at + 1], at / 2));
      this.heads.forEach((head, column) => {
        const button = make("button", { type: "button", textContent: head.textContent });
        button.addEventListener("click", () => this.sortBy(column));
        head.replaceChildren(button);
      });
      this.input.addEventListener("input", () => this.changed());
      for (const chip of [...this.methods, ...this.verdicts, this.worst])
        chip.addEventListener("click", () => { this.press(chip, !this.pressed(chip)); this.changed(); });
      this.body.addEventListener("keydown", (event) => this.key(event));
      this.tools.hidden = false;
      this.start = { s: this.heads.findIndex((head) => head.hasAttribute("aria-sort")), down: true };
    }

    prepare(line, more, index) {
      const head = line.cells[0];
      const name = head.textContent;
      more.id = `${this.section.id}-${index}`;
      const button = make("button", { type: "button", textContent: name });
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-controls", more.id);
      head.replaceChildren(button);
      const row = { line, more, button, name, index, shown: true };
      row.cells = [...line.cells].map((cell, column) => (column ? cell.textContent : name));
      row.numbers = row.cells.map(number);
      row.text = `${name} ${row.cells[1]} ${more.querySelector(".map")?.textContent ?? ""}`.toLowerCase();
      button.addEventListener("click", () => { this.open(row, !this.isOpen(row)); this.save(); });
      return row;
    }

    pressed(chip) { return chip.getAttribute("aria-pressed") === "true"; }
    press(chip, on) { chip.setAttribute("aria-pressed", String(on)); }
    wanted() { return this.verdicts.filter((chip) => this.pressed(chip)).map((chip) => chip.dataset.verdict); }
    isOpen(row) { return row.more.classList.contains("open"); }
    open(row, on) {
      row.more.classList.toggle("open", on);
      row.more.querySelector("details").open = on;
      row.button.setAttribute("aria-expanded", String(on));
    }

    sortBy(column, down) {
      // A second press turns the order; numbers start with the largest.
      const numeric = this.rows.some((row) => !Number.isNaN(row.numbers[column]));
      this.down = down ?? (column === this.column ? !this.down : numeric && column > 1);
      this.column = column;
      this.order();
      this.save();
    }

    order() {
      const { column, down } = this;
      const textual = column < 2 || this.rows.every((row) => Number.isNaN(row.numbers[column]));
      const compare = (one, other) => {
        if (textual) return one.cells[column].localeCompare(other.cells[column], "en", { numeric: true });
        return one.numbers[column] - other.numbers[column];
      };
      // Rows without a number come last in either order.
      const lacking = (row) => !textual && Number.isNaN(row.numbers[column]);
      this.rows.sort((one, other) => lacking(one) - lacking(other)
        || (lacking(one) ? 0 : (down ? -1 : 1) * compare(one, other)) || one.index - other.index);
      this.heads.forEach((head, at) => {
        if (at === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      const lines = document.createDocumentFragment();
      for (const row of this.rows) lines.append(row.line, row.more);
      this.body.append(lines);
    }

    changed() { this.filter(); this.save(); }

    filter() {
      const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const worst = this.pressed(this.worst);
      const wanted = this.wanted();
      for (const row of this.rows) {
        const said = (row.line.dataset.verdict ?? "").split("~");
        row.shown = words.every((word) => row.text.includes(word))
          && (!worst || row.line.hasAttribute("data-worst"))
          && (!wanted.length || wanted.some((verdict) => said.includes(verdict)));
        row.line.hidden = !row.shown;
        row.more.hidden = !row.shown;
      }
      const hidden = this.methods.flatMap((chip, at) => (this.pressed(chip) ? [] : [0, 1, 2].map((k) => this.fixed + 3 * at + k + 1)));
      this.style.textContent = hidden.map((at) => `#${this.section.id} .clients tr>:nth-child(${at})`).join(",") + (hidden.length ? "{display:none}" : "");
      this.foot();
    }

    foot() {
      const shown = this.rows.filter((row) => row.shown);
      this.count.textContent = `${shown.length} of ${this.rows.length} clients`;
      const [means, medians] = this.table.tFoot.rows;
      for (let column = 2; column < this.heads.length; column += 1) {
        const values = shown.map((row) => row.numbers[column]).filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
        if (!this.rows.some((row) => !Number.isNaN(row.numbers[column]))) continue;
        const digits = column < 5 ? 1 : 3;
        const middle = values.length >> 1;
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        const median = values.length % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
        means.cells[column].textContent = values.length ? mean.toFixed(digits) : "N/A";
        medians.cells[column].textContent = values.length ? median.toFixed(digits) : "N/A";
      }
    }

    key(event) {
      const line = event.target.closest("tr");
      const shown = this.rows.filter((row) => row.shown);
      const at = shown.findIndex((row) => row.line === line || row.more === line);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
      if (at >= 0 && to !== undefined && shown[to]) {
        event.preventDefault();
        shown[to].button.focus();
      }
    }

    escape(target) {
      const row = this.rows.find((one) => this.isOpen(one) && (one.line.contains(target) || one.more.contains(target)));
      if (row) {
        this.open(row, false);
        row.button.focus();
      } else if (this.section.contains(target)) {
        this.input.value = "";
        this.filter();
      }
      this.save();
    }

    state() {
      const found = {};
      const chosen = this.methods.filter((chip) => this.pressed(chip)).map((chip) => chip.textContent).join("~");
      if (this.column !== this.start.s || this.down !== this.start.down)
        found.sort = `${this.down ? "-" : ""}${this.heads[this.column].dataset.key}`;
      if (this.input.value) found.q = this.input.value;
      if (chosen !== this.usual) found.m = chosen;
      if (this.wanted().length) found.v = this.wanted().join("~");
      if (this.pressed(this.worst)) found.worst = "1";
      const open = this.rows.filter((row) => this.isOpen(row)).map((row) => row.name);
      if (open.length) found.open = open.join("~");
      return Object.entries(found).map(([key, value]) => [this.prefix + key, value]);
    }

    restore(given) {
      const get = (key) => given.get(this.prefix + key);
      const sort = get("sort") ?? "";
      const column = this.heads.findIndex((head) => head.dataset.key === sort.replace(/^-/, ""));
      this.column = column < 0 ? this.start.s : column;
      this.down = column < 0 ? this.start.down : sort.startsWith("-");
      this.input.value = get("q") ?? "";
      const names = this.methods.map((chip) => chip.textContent);
      const few = names.filter((name) => ["global", "ft", "ours"].includes(name));
      const usual = names.length <= 3 ? names : few.length === 3 ? few : names.slice(0, 3);
      const chosen = get("m")?.split("~") ?? usual;
      this.methods.forEach((chip) => this.press(chip, chosen.includes(chip.textContent)));
      this.usual = usual.join("~");
      const verdicts = get("v")?.split("~") ?? [];
      this.verdicts.forEach((chip) => this.press(chip, verdicts.includes(chip.dataset.verdict)));
      this.press(this.worst, get("worst") === "1");
      const open = get("open")?.split("~") ?? [];
      this.rows.forEach((row) => this.open(row, open.includes(row.name)));
      this.order();
      this.filter();
    }

    save() {
      const state = new URLSearchParams(explorers.flatMap((one) => one.state())).toString();
      history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
    }
  }

  document.querySelectorAll(".explorer").forEach((section, index) => explorers.push(new Explorer(section, index)));
  const restore = () => {
    // An address that names a section is no view.
    const given = location.hash.includes("=") ? new URLSearchParams(location.hash.slice(1)) : new URLSearchParams();
    explorers.forEach((one) => one.restore(given));
  };
  restore();
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) restore(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input");
    if (event.key === "/" && !typing && explorers.length && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      const near = explorers.find((one) => one.section.contains(event.target)) ?? explorers[0];
      near.input.focus();
      near.input.select();
    } else if (event.key === "Escape") explorers.find((one) => one.section.contains(event.target))?.escape(event.target);
  });
})();
