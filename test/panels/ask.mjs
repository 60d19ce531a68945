// What a dashboard asks of Prometheus, and what it answers.

const units = { s: 1, m: 60, h: 3600, d: 86400 };

function seconds(text) {
  const [, n, unit] = /^(\d+)([smhd])$/.exec(text) ?? [];
  if (!n) {
    throw new Error(`${text} is no duration such as 15m`);
  }
  return Number(n) * units[unit];
}

// rangeOf returns the time that is shown, in seconds, with the step and the rate interval that Grafana would take.
export function rangeOf(args) {
  const to = args.until ? Date.parse(args.until) / 1000 : Date.now() / 1000;
  const span = seconds(args.last);
  const scrape = seconds(args.scrape);
  const step = Math.max(scrape, Math.ceil(span / 1000 / scrape) * scrape);
  const last = Math.floor(to / step) * step; // Grafana asks for multiples of the step
  return { from: last - Math.floor(span / step) * step, to: last, step, rate: Math.max(step + scrape, 4 * scrape) };
}

// answersOf returns, for each panel's id, the result of each of its queries.
export async function answersOf(dashboard, range, args) {
  const answers = {};
  const values = await chosen(dashboard, range, args);
  for (const panel of dashboard.panels) {
    answers[panel.id] = await Promise.all((panel.targets ?? []).map((target) => ask(target, range, args, values)));
  }
  return answers;
}

// chosen returns the values of the dashboard's variables. Of those that take one value only, the first is taken, as Grafana does,
// unless args name one.
async function chosen(dashboard, range, args) {
  const values = { node: args.node, tenant: args.tenant, timeline: args.timeline };
  for (const { name, includeAll, definition } of dashboard.templating.list) {
    if (!(name in values) || includeAll || values[name] !== '.*') {
      continue;
    }
    const [, series, label] = /^label_values\((.+), (\w+)\)$/.exec(definition);
    const form = new URLSearchParams({ 'match[]': filled(series, values), start: range.from, end: range.to });
    const response = await fetch(`${args.prometheus}/api/v1/label/${label}/values?${form}`);
    values[name] = (await response.json()).data?.[0] ?? '.*';
  }
  return values;
}

const filled = (query, values) => Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`$${name}`, value), query);

async function ask(target, range, args, values) {
  const query = filled(target.expr.replaceAll('$__rate_interval', `${range.rate}s`), values);
  const form = target.instant
    ? { query, time: range.to }
    : { query, start: range.from, end: range.to, step: range.step };
  const response = await fetch(`${args.prometheus}/api/v1/${target.instant ? 'query' : 'query_range'}`, { method: 'POST', body: new URLSearchParams(form) });
  const answer = await response.json();
  if (answer.status !== 'success') {
    throw new Error(`${query}: ${answer.error}`);
  }
  return answer.data.result.map((series) => ({
    labels: series.metric,
    name: target.legendFormat.replaceAll(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => series.metric[label] ?? ''),
    points: series.values ?? [series.value],
  }));
}
