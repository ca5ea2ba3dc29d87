// The hours of sharing: a week of 7 × 24 squares, and the windows in which the device keeps it.
import type { Hours } from "./device";

/** `week[day][hour]`, Monday first: whether the device may share in that hour. */
export type Week = boolean[][];

const DAY_MIN = 1440;
export const WINDOWS_MAX = 28;

export function always(): Week {
  return Array.from({ length: 7 }, () => Array.from({ length: 24 }, () => true));
}

/** No windows mean always. A window of minutes counts for each hour that it touches. */
export function weekOf(windows: readonly Hours[]): Week {
  if (windows.length === 0) return always();
  const week: Week = Array.from({ length: 7 }, () => Array.from({ length: 24 }, () => false));
  for (const { days, start_min: start, end_min: end } of windows) {
    const until = end > start ? end : end + DAY_MIN;
    for (const day of days)
      for (let at = Math.floor(start / 60) * 60; at < until; at += 60) {
        const row = week[(day + Math.floor(at / DAY_MIN)) % 7];
        if (row) row[(at % DAY_MIN) / 60] = true;
      }
  }
  return week;
}

/** The windows of a week: one for each run of hours, days with the same runs together. Null where they are too many. */
export function windowsOf(week: Week): Hours[] | null {
  if (week.every((row) => row.every(Boolean))) return [];
  const byRun = new Map<string, Hours>();
  week.forEach((row, day) => {
    let start = -1;
    for (let hour = 0; hour <= 24; hour += 1) {
      const on = hour < 24 && row[hour] === true;
      if (on && start < 0) start = hour;
      if (!on && start >= 0) {
        const key = `${start}-${hour}`;
        const known = byRun.get(key) ?? { days: [], start_min: start * 60, end_min: hour * 60 };
        known.days.push(day);
        byRun.set(key, known);
        start = -1;
      }
    }
  });
  const found = [...byRun.values()];
  return found.length <= WINDOWS_MAX ? found : null;
}

export function hoursIn(week: Week): number {
  return week.flat().filter(Boolean).length;
}
