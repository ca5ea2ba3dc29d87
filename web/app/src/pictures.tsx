// The pictures: the line of the last minute, the day ahead, the days before. Plain SVG, drawn anew with each value: a
// charting library would weigh more than all the rest of the app, and none of these needs zooming or axes of its own.
import type { Sample } from "./live";
import { SAMPLES_MAX } from "./live";
import { rate, t } from "./words";

const WIDTH = 340;
const HEIGHT = 132;

/** Points of an area between two heights, as SVG wants them. */
function area(
  tops: readonly number[],
  floors: readonly number[],
  x: (at: number) => number,
  y: (v: number) => number,
): string {
  const upper = tops.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  const lower = floors.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).reverse();
  return [...upper, ...lower].join(" ");
}

/** The upload line: what Fallow sends below, the household above it, and how far Fallow may go. */
export function LinePicture({
  samples,
  householdSeen,
}: {
  samples: readonly Sample[];
  householdSeen: boolean;
}) {
  const newest = samples.at(-1);
  if (!newest) return <div class="picture empty" />;
  const most = Math.max(newest.capacity, ...samples.map((one) => one.own + one.household), 1);
  const x = (at: number) => WIDTH - ((samples.length - 1 - at) / (SAMPLES_MAX - 1)) * WIDTH;
  const y = (value: number) => HEIGHT - (Math.min(value, most) / most) * (HEIGHT - 4);
  const own = samples.map((one) => one.own);
  const both = samples.map((one) => one.own + one.household);
  const zero = samples.map(() => 0);
  const may = samples.map((one, at) => `${x(at).toFixed(1)},${y(one.budget).toFixed(1)}`).join(" ");
  const free = Math.max(0, newest.capacity - newest.own - newest.household);
  const label = householdSeen
    ? t(
        [
          "Upload now: home {home}, Fallow {own}, free {free}, Fallow may use up to {may}",
          "当前上行：家人 {home}，Fallow {own}，空闲 {free}，Fallow 最多可用 {may}",
        ],
        {
          home: rate(newest.household),
          own: rate(newest.own),
          free: rate(free),
          may: rate(newest.budget),
        },
      )
    : t(["Upload now: Fallow {own}, and it may use up to {may}", "当前上行：Fallow {own}，最多可用 {may}"], {
        own: rate(newest.own),
        may: rate(newest.budget),
      });
  return (
    <figure class="line-picture">
      <svg
        class="picture"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={label}
      >
        <polygon class="own" points={area(own, zero, x, y)} />
        <polygon class="household" points={area(both, own, x, y)} />
        <polyline class="may" points={may} />
      </svg>
      <dl class="legend">
        <div class="household">
          <dt>{t(["Your home", "家人"])}</dt>
          <dd>{householdSeen ? rate(newest.household) : t(["not seen from here", "此处看不到"])}</dd>
        </div>
        <div class="own">
          <dt>Fallow</dt>
          <dd>{rate(newest.own)}</dd>
        </div>
        <div class="free">
          <dt>{t(["Free", "空闲"])}</dt>
          <dd>{rate(free)}</dd>
        </div>
        <div class="may">
          <dt>{t(["Fallow may use", "Fallow 可用"])}</dt>
          <dd>{rate(newest.budget)}</dd>
        </div>
      </dl>
    </figure>
  );
}

export interface Bar {
  key: string;
  value: number;
  label: string;
  mark?: string;
}

/** Bars that are only looked at; `label` says the whole picture. */
export function Bars({ bars, label, most = 0 }: { bars: readonly Bar[]; label: string; most?: number }) {
  const highest = Math.max(most, ...bars.map((bar) => bar.value), 1);
  const step = WIDTH / bars.length;
  return (
    <figure>
      <svg class="picture bars" viewBox={`0 0 ${WIDTH} 88`} role="img" aria-label={label}>
        {bars.map((bar, at) => {
          const height = Math.max(2, (bar.value / highest) * 62);
          return (
            <g key={bar.key}>
              <rect class="bar" x={at * step + 1.5} y={66 - height} width={step - 3} height={height} rx="2" />
              {bar.mark && (
                <text
                  x={at === 0 ? 0 : at * step + step / 2}
                  y="83"
                  text-anchor={at === 0 ? "start" : "middle"}
                >
                  {bar.mark}
                </text>
              )}
            </g>
          );
        })}
      </svg>
    </figure>
  );
}

/** Days as bars that can be chosen, each a button as wide as a finger allows. */
export function DayBars(props: {
  bars: readonly Bar[];
  chosen: string | null;
  onChoose: (key: string) => void;
  label: string;
}) {
  const highest = Math.max(...props.bars.map((bar) => bar.value), 1);
  return (
    <>
      <fieldset class="day-bars">
        <legend class="unseen">{props.label}</legend>
        {props.bars.map((bar) => (
          <button
            type="button"
            key={bar.key}
            aria-pressed={bar.key === props.chosen}
            aria-label={bar.label}
            onClick={() => props.onChoose(bar.key)}
          >
            <svg viewBox="0 0 10 100" preserveAspectRatio="none" aria-hidden="true">
              <rect
                x="0"
                width="10"
                y={100 - Math.max(2, (bar.value / highest) * 100)}
                height={Math.max(2, (bar.value / highest) * 100)}
                rx="1.5"
              />
            </svg>
          </button>
        ))}
      </fieldset>
      <div class="day-marks" aria-hidden="true">
        {props.bars.map((bar) => (
          <span key={bar.key}>{bar.mark}</span>
        ))}
      </div>
    </>
  );
}
