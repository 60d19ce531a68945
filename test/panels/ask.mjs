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
  for (const panel of dashboard.panels) {
    answers[panel.id] = await Promise.all((panel.targets ?? []).map((target) => ask(target, range, args)));
  }
  return answers;
}

async function ask(target, range, args) {
  const query = target.expr
    .replaceAll('$__rate_interval', `${range.rate}s`)
    .replaceAll('$node', args.node).replaceAll('$tenant', args.tenant).replaceAll('$timeline', args.timeline);
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
