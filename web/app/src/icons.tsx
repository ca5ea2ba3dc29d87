// Small pictures beside words; the words carry the meaning.
import type { SVGAttributes } from "preact";

const PATHS = {
  home: "M4 11l8-7 8 7M6 10v9h4v-5h4v5h4v-9",
  points:
    "M12 4c4 0 7 1.3 7 3s-3 3-7 3-7-1.3-7-3 3-3 7-3zM5 7v5c0 1.700 3 3 7 3s7-1.300 7-3V7M5 12v5c0 1.700 3 3 7 3s7-1.300 7-3v-5",
  limits: "M5 7h8M17 7h2M5 17h2M11 17h8M15 5v4M9 15v4M5 12h14",
  device: "M4 15h16v4H4zM8 15V9M16 15V9M7 17h.01M6 6c3.500-2.700 8.500-2.700 12 0",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.500v13l10-6.500z",
  check: "M5 12.500l4.500 4.500L19 7.500",
  never: "M12 4a8 8 0 100 16 8 8 0 000-16zM6.500 6.500l11 11",
  warning: "M12 5l8.500 14h-17zM12 10.500v4M12 16.500v.01",
  back: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  leaf: "M5 19c0-9 5-14 15-14 0 10-5 14-11 14-2 0-4-1-4-1M5 19c2-5 5-7 9-9",
  gift: "M4 9h16v4H4zM6 13v7h12v-7M12 9v11M12 9C9 9 7 8 7 6.500S10 4 12 9c2-5 5-4 5-2.500S15 9 12 9",
  heart:
    "M12 19S4.500 14.500 4.500 9.300C4.500 6.500 8.500 4.500 12 8.200c3.500-3.700 7.500-1.700 7.500 1.100C19.500 14.500 12 19 12 19z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, ...more }: { name: IconName } & SVGAttributes<SVGSVGElement>) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false" {...more}>
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A field under the sky: the sun stands high while the device shares, and the moon while it rests. */
export function Scene({ mood }: { mood: "day" | "night" | "dawn" }) {
  return (
    <svg
      class={`scene ${mood}`}
      viewBox="0 0 390 150"
      preserveAspectRatio="xMidYMax slice"
      aria-hidden="true"
    >
      <rect class="sky" width="390" height="150" />
      <circle class="sun" cx="282" cy={mood === "dawn" ? 92 : 48} r="22" />
      <circle class="bite" cx="292" cy="42" r="19" />
      <path class="far" d="M0 98Q100 62 210 92T390 78V150H0Z" />
      <path class="near" d="M0 122Q120 88 240 116T390 108V150H0Z" />
      <path
        class="furrows"
        d="M60 150Q90 126 128 105M120 150Q140 128 166 106M186 150Q196 130 210 111M254 150Q252 132 254 117M322 150Q308 132 298 117"
      />
    </svg>
  );
}
