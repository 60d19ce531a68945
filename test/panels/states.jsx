// A timeline of states: a row for each series, a bar for each run of equal states. Grafana's own is in no library.
export function StateTimeline({ rows, range, theme, width, height, options }) {
  const names = Math.min(220, Math.max(60, ...rows.map((r) => r.name.length * 7)));
  const legend = options.legend.showLegend ? 24 : 0;
  const axis = 20;
  const rowHeight = (height - legend - axis) / Math.max(1, rows.length);
  const bar = rowHeight * options.rowHeight;
  const at = (ms) => ((ms / 1000 - range.from) / (range.to - range.from)) * (width - names);
  const words = new Map();
  rows.forEach((r) => r.states.forEach((s) => s && words.set(s.text, s.color)));
  const ticks = Array.from({ length: 5 }, (_, i) => range.from + (i / 4) * (range.to - range.from));
  return (
    <div style={{ position: 'relative', width, height, fontSize: 12 }}>
      {rows.map((row, i) => (
        <div key={i}>
          <div style={{ position: 'absolute', top: i * rowHeight, width: names - 6, lineHeight: `${rowHeight}px`, textAlign: 'right', whiteSpace: 'nowrap', overflow: 'hidden' }}>{row.name}</div>
          {runs(row).map((run, j) => (
            <div
              key={j}
              style={{
                position: 'absolute', left: names + at(run.from), top: i * rowHeight + (rowHeight - bar) / 2, width: Math.max(1, at(run.to) - at(run.from)), height: bar,
                background: run.state.color, color: run.state.color.includes('0)') ? theme.colors.text.disabled : theme.colors.getContrastText(run.state.color), lineHeight: `${bar}px`, paddingLeft: 3, overflow: 'hidden', whiteSpace: 'nowrap', boxSizing: 'border-box',
              }}
            >
              {at(run.to) - at(run.from) > run.state.text.length * 7 && bar > 11 ? run.state.text : ''}
            </div>
          ))}
        </div>
      ))}
      {ticks.map((t, i) => (
        <div key={t} style={{ position: 'absolute', bottom: legend, left: i === 4 ? undefined : names + at(t * 1000), right: i === 4 ? 0 : undefined }}>
          {new Date(t * 1000).toISOString().slice(11, 19)}
        </div>
      ))}
      {legend > 0 && (
        <div style={{ position: 'absolute', bottom: 0 }}>
          {[...words].map(([word, color]) => <span key={word} style={{ marginRight: 12 }}><span style={{ color }}>▬</span> {word}</span>)}
        </div>
      )}
    </div>
  );
}

// runs joins equal neighbours.
function runs({ times, states }) {
  const list = [];
  states.forEach((state, i) => {
    const last = list.at(-1);
    const to = times[i + 1] ?? times[i];
    if (!state) {
      return;
    }
    if (last && last.state.text === state.text && last.to === times[i]) {
      last.to = to;
    } else {
      list.push({ state, from: times[i], to });
    }
  });
  return list;
}
