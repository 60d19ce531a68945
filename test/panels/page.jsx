// The page that draws a dashboard: Grafana's own components where they are in its libraries, and its arithmetic (units, thresholds,
// mappings, colours, legends) everywhere. What is in none of its libraries is a timeline of states, which is drawn here.
import {
  createTheme, dateTime, FieldType, formattedValueToString, getDisplayProcessor, ThemeContext, VizOrientation,
} from '@grafana/data';
import { BigValue, GlobalStyles, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { StateTimeline } from './states.jsx';

// What Grafana takes for a setting of a graph that a dashboard does not make.
const graphDefaults = {
  drawStyle: 'line', lineInterpolation: 'linear', barAlignment: 0, lineWidth: 1, fillOpacity: 0, gradientMode: 'none', spanNulls: false,
  showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text',
  axisBorderShow: false, axisGridShow: true, axisCenteredZero: false, scaleDistribution: { type: 'linear' },
  hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: 'off' },
};

const gap = 8;

window.draw = (dashboard, answers, range, mode) => {
  const theme = createTheme({ colors: { mode } });
  const root = document.getElementById('root');
  document.body.style.background = theme.colors.background.canvas;
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles isExtensionSidebarOpen={false} />
      <Dashboard dashboard={dashboard} answers={answers} range={range} theme={theme} width={window.innerWidth - 2 * gap} />
    </ThemeContext.Provider>,
  );
};

function Dashboard({ dashboard, answers, range, theme, width }) {
  const column = (width - 23 * gap) / 24;
  const place = ({ x, y, w, h }) => ({
    position: 'absolute', left: gap + x * (column + gap), top: 56 + y * (30 + gap), width: w * column + (w - 1) * gap, height: h * 30 + (h - 1) * gap,
  });
  const bottom = Math.max(...dashboard.panels.map((p) => p.gridPos.y + p.gridPos.h));
  return (
    <div style={{ position: 'relative', height: 64 + bottom * (30 + gap), color: theme.colors.text.primary }}>
      <div style={{ padding: '12px 8px', fontSize: 20 }}>
        {dashboard.title} <span style={{ fontSize: 13, color: theme.colors.text.secondary }}>{dashboard.description}</span>
      </div>
      {dashboard.panels.map((panel) => {
        const box = place(panel.gridPos);
        return panel.type === 'row'
          ? <div key={panel.id} style={{ ...box, fontSize: 16, fontWeight: 500, lineHeight: '30px' }}>⌄ {panel.title}</div>
          : <Panel key={panel.id} panel={panel} answers={answers[panel.id]} range={range} theme={theme} box={box} />;
      })}
    </div>
  );
}

function Panel({ panel, answers, range, theme, box }) {
  const header = 32;
  const frame = {
    ...box, background: theme.colors.background.primary, border: `1px solid ${theme.components.panel.borderColor}`, borderRadius: 2, overflow: 'hidden',
  };
  const title = { height: header, padding: '0 8px', lineHeight: `${header}px`, fontSize: 14, fontWeight: 500, whiteSpace: 'nowrap', overflow: 'hidden', textOverflow: 'ellipsis' };
  const inner = { width: box.width - 2 - 16, height: box.height - 2 - header - 8 };
  const Body = bodies[panel.type];
  const some = answers.some((series) => series.length > 0);
  return (
    <div style={frame}>
      <div style={title}>{panel.title}</div>
      <div style={{ position: 'relative', margin: '0 8px', ...inner }}>
        {some
          ? <Body panel={panel} answers={answers} range={range} theme={theme} {...inner} />
          : <div style={{ textAlign: 'center', paddingTop: inner.height / 2 - 10, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>}
      </div>
    </div>
  );
}

const bodies = { timeseries: Graph, stat: Numbers, table: Rows, 'state-timeline': States };

// valueField is one of Grafana's fields of data.
function valueField(panel, theme, index, series, values) {
  const { defaults } = panel.fieldConfig;
  const field = {
    name: 'Value', type: FieldType.number, labels: series.labels, values,
    config: { ...defaults, displayNameFromDS: series.name || undefined, custom: { ...graphDefaults, ...defaults.custom } },
    state: { seriesIndex: index },
  };
  override(panel, field, series.name);
  field.display = getDisplayProcessor({ field, theme });
  return field;
}

// override applies the two kinds of overrides that the dashboards have.
function override(panel, field, name) {
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    const matches = matcher.id === 'byName' ? matcher.options === name : new RegExp(matcher.options.slice(1, -1)).test(name);
    if (matches) {
      properties.forEach((p) => { field.config.custom[p.id.replace('custom.', '')] = p.value; });
    }
  }
}

// frames have a value or a null for each step.
function framesOf(panel, answers, range, theme) {
  const steps = Math.round((range.to - range.from) / range.step) + 1;
  const times = Array.from({ length: steps }, (_, i) => (range.from + i * range.step) * 1000);
  return answers.flat().map((series, index) => {
    const values = new Array(steps).fill(null);
    for (const [at, v] of series.points) {
      values[Math.round((at - range.from) / range.step)] = Number(v);
    }
    const time = { name: 'Time', type: FieldType.time, values: times, config: { custom: { ...graphDefaults } } };
    time.display = getDisplayProcessor({ field: time, theme });
    return { name: series.name, length: steps, refId: 'A', fields: [time, valueField(panel, theme, index, series, values)] };
  });
}

function Graph({ panel, answers, range, theme, width, height }) {
  const from = dateTime(range.from * 1000);
  const to = dateTime(range.to * 1000);
  return (
    <TimeSeries
      frames={framesOf(panel, answers, range, theme)} width={width} height={height} timeZone="utc" legend={panel.options.legend}
      timeRange={{ from, to, raw: { from, to } }} structureRev={1}
    />
  );
}

function Numbers({ panel, answers, theme, width, height }) {
  const values = answers.flat().map((series, index) => {
    const field = valueField(panel, theme, index, series, series.points.map(([, v]) => Number(v)));
    return { ...field.display(field.values.at(-1)), title: series.name };
  });
  return (
    <VizRepeater
      getValues={() => values} source={values} width={width} height={height} orientation={VizOrientation.Auto} itemSpacing={8} renderCounter={0} autoGrid
      renderValue={({ value, width: w, height: h, count }) => (
        <BigValue
          value={value} width={w} height={h} theme={theme} colorMode={panel.options.colorMode} graphMode="none" justifyMode="auto" count={count}
          textMode={panel.options.textMode} hasLinks={false}
        />
      )}
    />
  );
}

// Rows applies the two transformations that the dashboards have: which columns, and in which order.
function Rows({ panel, answers, theme, width, height }) {
  const rows = answers.flat();
  const order = panel.transformations.find((t) => t.id === 'organize').options;
  const names = Object.entries(order.indexByName).sort(([, a], [, b]) => a - b).map(([name]) => name).filter((name) => !order.excludeByName[name]);
  const fields = names.map((name) => {
    const number = name === 'Value';
    const field = {
      name: order.renameByName[name] ?? name, type: number ? FieldType.number : FieldType.string,
      values: rows.map((r) => (number ? Number(r.points[0][1]) : r.labels[name] ?? '')),
      config: { ...panel.fieldConfig.defaults, links: [], custom: { ...panel.fieldConfig.defaults.custom } }, state: {},
    };
    override(panel, field, field.name);
    field.display = getDisplayProcessor({ field, theme });
    return field;
  });
  return <Table data={{ fields, length: rows.length }} width={width} height={height} showTypeIcons={false} cellHeight={panel.options.cellHeight} />;
}

function States({ panel, answers, range, theme, width, height }) {
  const rows = framesOf(panel, answers, range, theme).map(({ name, fields: [time, value] }) => ({
    name, times: time.values,
    states: value.values.map((v) => (v === null || Number.isNaN(v) ? null : { text: formattedValueToString(value.display(v)), color: value.display(v).color })),
  }));
  return <StateTimeline rows={rows} range={range} theme={theme} width={width} height={height} options={panel.options} />;
}
