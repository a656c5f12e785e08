// Draws the charts of a dashboard: the rows of each query by its Vega-Lite specification. Colours are
// names in callhouse.css, which has a light and a dark value for each.

// Interpret specifications and add no style element: the Content-Security-Policy forbids compiling.
const OPTIONS = { ast: true, actions: false, defaultStyle: false, renderer: "svg" };

const AUTOSIZE = { type: "fit-x", contains: "padding" };

// Columns whose raw names people read as labels, as on other pages.
const LABELLED = ["reason", "outcome", "component", "sentiment", "family", "product"];

const labels = JSON.parse(document.querySelector("[data-labels]")?.dataset.labels ?? "{}");

const bubble = document.createElement("div");
bubble.className = "bubble";
bubble.hidden = true;
document.body.append(bubble);

function label(name) {
  if (typeof name !== "string") return name;
  return Object.hasOwn(labels, name) ? labels[name] : name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function withLabels(row) {
  const columns = LABELLED.filter((column) => column in row);
  return { ...row, ...Object.fromEntries(columns.map((column) => [column, label(row[column])])) };
}

// The tooltip of a mark: a line for each of its values, as text.
function showTooltip(_handler, event, _item, value) {
  bubble.hidden = !value;
  if (!value) return;
  bubble.replaceChildren(
    ...Object.entries(value).map(([name, text]) => {
      const line = document.createElement("div");
      const what = document.createElement("span");
      what.textContent = name;
      line.append(what, ` ${text}`);
      return line;
    }),
  );
  const { offsetWidth: width, offsetHeight: height } = bubble;
  bubble.style.left = `${Math.max(0, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  bubble.style.top = `${event.clientY + 14 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 14}px`;
}

function config(width) {
  const soft = { labelColor: "var(--soft)", titleColor: "var(--soft)" };
  const font = getComputedStyle(document.body).fontFamily;
  return {
    font,
    background: "transparent",
    view: { stroke: null },
    axis: { ...soft, labelFontSize: 11, domain: false, ticks: false, labelPadding: 6, gridColor: "var(--line)" },
    axisX: { labelOverlap: true, labelSeparation: 8 },
    axisY: { grid: false, labelLimit: width - barsWidth(width) },
    axisYQuantitative: { grid: true, tickCount: 5 },
    axisXQuantitative: { grid: true, tickCount: Math.max(2, Math.floor(width / 110)) },
    legend: {
      ...soft,
      orient: "top",
      labelFontSize: 12,
      symbolType: "square",
      symbolStrokeWidth: 0,
      columns: Math.max(2, Math.floor(width / 130)),
      labelLimit: 170,
    },
    line: { strokeWidth: 2 },
  };
}

// The width of horizontal bars, beside their names.
function barsWidth(width) {
  return width - Math.min(260, width * 0.42);
}

// Filters that narrow another one, which a row may lack.
const NARROWING = ["version", "next_node"];

// The page of calls with the filters that a row has values for. Empty without one of the others.
function urlOf(row, links, things) {
  const url = new URL(things, location.href);
  for (const [filter, column] of Object.entries(links)) {
    if (row[column] !== null && row[column] !== "") url.searchParams.set(filter, row[column]);
    else if (!NARROWING.includes(filter)) return null;
  }
  return url.pathname + url.search;
}

// Marks with a tooltip lead to their calls, if there are filters for these.
function addLinks(spec) {
  for (const { encoding } of [spec, ...(spec.layer ?? [])]) {
    if (encoding?.tooltip) encoding.href = { condition: { test: "datum.url", field: "url", type: "nominal" } };
  }
}

// Leave colours without rows out of the legend.
function withoutAbsent(spec, rows) {
  const colour = spec.layer?.[0].encoding?.color ?? spec.encoding?.color;
  const { field, scale } = colour ?? {};
  if (!scale?.domain) return;
  const there = scale.domain.map((name) => rows.some((row) => row[field] === name));
  colour.scale = {
    domain: scale.domain.filter((_, n) => there[n]),
    range: scale.range.filter((_, n) => there[n]),
  };
}

function countValues({ field, scale }, rows) {
  return scale?.domain?.length ?? new Set(rows.map((row) => row[field])).size;
}

// Room for the values of bars: beside horizontal ones, or above those of days, if they fit.
function fitValues(spec, rows, width) {
  const [bars, values] = spec.layer ?? [];
  if (values?.mark.type !== "text") return;
  const amount = bars.encoding.tooltip.find(({ type }) => type === "quantitative").field;
  const name = spec.encoding?.y.field ?? "day";
  const sums = {};
  for (const row of rows) sums[row[name]] = (sums[row[name]] ?? 0) + row[amount];
  const most = Math.max(...Object.values(sums));
  const room = 8 + 6.5 * vega.defaultLocale().format(values.encoding.text.format)(most).length;
  if (name !== "day") {
    // The legend begins beside the names too.
    spec.config = { legend: { columns: Math.max(1, Math.floor(barsWidth(width) / 130)) } };
    bars.encoding.x.scale = { domainMax: Math.max(most / (1 - room / barsWidth(width)), 1e-9), nice: false };
  } else if ((width - 50) / spec.usermeta.bars < room) spec.layer.length = 1;
}

// Bars of shares: how many there are of each kind, and their share, in the legend; and as words.
function addTotals(spec, rows, width) {
  const { format } = vega.defaultLocale();
  const { whole } = spec.usermeta;
  const colour = spec.layer[0].encoding.color;
  const sums = {};
  for (const row of rows) sums[row[colour.field]] = (sums[row[colour.field]] ?? 0) + row[whole];
  const all = Object.values(sums).reduce((a, b) => a + b);
  const text = (name) => `${name} ${format(",d")(sums[name])} (${format(".0%")(sums[name] / all)})`;
  const texts = Object.fromEntries(colour.scale.domain.map((name) => [name, text(name)]));
  const columns = Math.max(2, Math.floor(width / 160));
  colour.legend = { labelExpr: `${JSON.stringify(texts)}[datum.label]`, columns, offset: 22 };
  return ` ${Object.values(texts).join(", ")}.`;
}

function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// The rows as a table, with the columns and formats of the tooltip.
function tableOf(spec, rows) {
  const drawn = [spec, ...(spec.layer ?? [])].find(({ encoding }) => encoding?.tooltip);
  const columns = drawn.encoding.tooltip.filter(({ field }) => field in rows[0]);
  const { format } = vega.defaultLocale();
  const write = ({ field, format: form, type }, row) =>
    type === "quantitative" && row[field] !== null ? format(form)(row[field]) : (row[field] ?? "");
  const align = ({ type }) => ({ class: type === "quantitative" ? "type-float" : "type-str" });
  const cell = (column, row, n) =>
    n === 0 && row.url ? element("a", String(write(column, row)), { href: row.url }) : String(write(column, row));
  const head = columns.map((column) => element("th", label(column.title), { scope: "col", ...align(column) }));
  const body = rows.map((row) =>
    element("tr", columns.map((column, n) => element("td", cell(column, row, n), align(column)))),
  );
  return element("table", [element("thead", element("tr", head)), element("tbody", body)]);
}

// A table below the drawing, made when it is opened.
function addTable(place, spec, rows) {
  const title = place.closest("figure").querySelector("h2").textContent;
  const words = "Figures as a table";
  const about = { "aria-label": `${words}: ${title}` };
  const details = element("details", element("summary", words, about), { class: "numbers" });
  const region = { tabindex: "0", role: "region", ...about };
  const show = () => details.append(element("div", tableOf(spec, rows), region));
  details.addEventListener("toggle", show, { once: true });
  place.after(details);
}

function showMessage(place, text, className) {
  const words = document.createElement("p");
  words.textContent = text;
  words.className = className;
  place.removeAttribute("role");
  place.removeAttribute("aria-label");
  place.replaceChildren(words);
  place.classList.add("drawn");
}

// Charts of one query share its response.
const responses = {};

async function fetchRows(source) {
  const answer = await fetch(source);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

async function draw(place) {
  const { source } = place.dataset;
  const name = place.getAttribute("aria-label");
  const { rows: found, truncated } = await (responses[source] ??= fetchRows(source));
  const links = place.dataset.links && JSON.parse(place.dataset.links);
  const { things } = place.closest("[data-things]").dataset;
  const rows = found.map((row) => (links ? { ...withLabels(row), url: urlOf(row, links, things) } : withLabels(row)));
  if (!rows.length) return showMessage(place, "No data in these days.", "empty");
  const spec = { width: "container", autosize: AUTOSIZE, data: { values: rows }, ...JSON.parse(place.dataset.spec) };
  if (links) addLinks(spec);
  withoutAbsent(spec, rows);
  const totals = spec.usermeta?.whole ? addTotals(spec, rows, place.clientWidth) : "";
  fitValues(spec, rows, place.clientWidth);
  // The legend of the heatmap has short numbers.
  if (spec.encoding?.opacity) spec.encoding.opacity.legend.columns = place.clientWidth < 360 ? 3 : 6;
  if (spec.height.step) spec.height = spec.height.step * countValues(spec.encoding.y, rows);
  await vegaEmbed(place, spec, { ...OPTIONS, config: config(place.clientWidth), tooltip: showTooltip });
  // An image with a label, which Vega replaces; its figures are a table.
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", name + totals);
  place.removeAttribute("aria-roledescription");
  place.querySelector("svg").setAttribute("aria-hidden", "true");
  addTable(place, spec, rows);
  place.classList.add("drawn");
  if (truncated) place.after("The chart shows only the first rows.");
}

for (const place of document.querySelectorAll("[data-spec]")) {
  draw(place).catch((error) => showMessage(place, `This chart failed. ${error.message}`, "message-error"));
}
