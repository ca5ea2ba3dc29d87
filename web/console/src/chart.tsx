// Lines over time, drawn by uPlot in the colours of the page; the figures can be read as a table, too.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { time } from "./format";
import { language, t } from "./words";

export interface Series {
  label: string;
  /** A colour of tokens.css. */
  tone: "leaf" | "sun" | "clay" | "soft";
  values: readonly (number | null)[];
  step?: boolean;
  fill?: boolean;
}

interface Props {
  /** What the picture shows, for those who do not see it. */
  label: string;
  /** Unix seconds, rising. */
  at: readonly number[];
  series: readonly Series[];
  unit: (value: number) => string;
  max?: number;
}

const HEIGHT_PX = 220;
const TABLE_ROWS_MAX = 60;

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function useScheme(): boolean {
  const query = useMemo(() => window.matchMedia("(prefers-color-scheme: dark)"), []);
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const changed = () => setDark(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, [query]);
  return dark;
}

export function Chart(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const dark = useScheme();
  const data = [props.at, ...props.series.map((one) => one.values)] as unknown as uPlot.AlignedData;
  const latest = useRef(data);
  latest.current = data;
  const shape = JSON.stringify([
    props.series.map(({ label, tone, step, fill }) => [label, tone, step, fill]),
    props.max,
  ]);
  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const axis = {
      stroke: colour("soft"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line") },
    };
    const made = new uPlot(
      {
        width: Math.max(200, parent.clientWidth),
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: { y: false },
        scales: { y: { range: (_self, _low, high) => [0, props.max ?? (high > 0 ? high * 1.1 : 1)] } },
        axes: [
          { ...axis, values: (_self, splits) => hours(splits) },
          { ...axis, size: 84, values: (_self, splits) => splits.map((value) => props.unit(value)) },
        ],
        series: [
          {},
          ...props.series.map((one) => ({
            label: one.label,
            stroke: colour(one.tone),
            width: 2,
            points: { show: false },
            ...(one.fill ? { fill: `${colour(one.tone)}2e` } : {}),
            ...(one.step ? { paths: uPlot.paths.stepped?.({ align: 1 }) } : {}),
          })),
        ] as uPlot.Series[],
      },
      latest.current,
      parent,
    );
    plot.current = made;
    const watch = new ResizeObserver(() =>
      made.setSize({ width: Math.max(200, parent.clientWidth), height: HEIGHT_PX }),
    );
    watch.observe(parent);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, dark, language()]);
  useEffect(() => {
    plot.current?.setData(data);
  });
  const every = Math.max(1, Math.ceil(props.at.length / TABLE_ROWS_MAX));
  return (
    <figure class="chart">
      <ul class="legend">
        {props.series.map((one) => (
          <li key={one.label}>
            <span class={`swatch ${one.tone}`} aria-hidden="true" />
            {one.label}
          </li>
        ))}
      </ul>
      <div ref={box} role="img" aria-label={props.label} />
      <details>
        <summary>{t("As figures", "查看数值")}</summary>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reached by keys */}
        <section class="scroll" aria-label={props.label} tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("Time", "时间")}</th>
                {props.series.map((one) => (
                  <th scope="col" class="number" key={one.label}>
                    {one.label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {props.at.map(
                (at, row) =>
                  row % every === 0 && (
                    <tr key={at}>
                      <td>{time(at)}</td>
                      {props.series.map((one) => {
                        const value = one.values[row];
                        return (
                          <td class="number" key={one.label}>
                            {value === null || value === undefined ? "–" : props.unit(value)}
                          </td>
                        );
                      })}
                    </tr>
                  ),
              )}
            </tbody>
          </table>
        </section>
      </details>
    </figure>
  );
}

function hours(splits: readonly number[]): string[] {
  const locale = language() === "zh" ? "zh-CN" : "en-GB";
  const span = (splits[splits.length - 1] ?? 0) - (splits[0] ?? 0);
  const form: Intl.DateTimeFormatOptions =
    span > 3 * 86_400 ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
  const format = new Intl.DateTimeFormat(locale, form);
  return splits.map((at) => format.format(at * 1000));
}
