// The machine as a script of events and commands; in the end, a random one in which no chunk may be lost.
import { describe, expect, test } from "vitest";
import { type Command, LIMITS, ORIGIN, Schedule, type TicketSource } from "./schedule";
import { unacknowledgedBytesMax } from "./tickets";

const MIB = 2 ** 20;

const device = (key: string, changes: Partial<TicketSource> = {}): TicketSource => ({
  key,
  deviceId: `fd-${key}`,
  maxBytes: 2 ** 40,
  untilMs: 900_000,
  firstChunk: 0,
  ...changes,
});

function machine(chunks: number, ...sources: TicketSource[]): Schedule {
  const made = new Schedule(chunks * MIB, MIB);
  made.planned(sources, 0);
  for (let chunk = 0; chunk < chunks; chunk++) made.want(chunk);
  return made;
}

type Fetch = Extract<Command, { do: "fetch" }>;
const fetches = (commands: Command[]) => commands.filter((one): one is Fetch => one.do === "fetch");
const told = (commands: Command[]) => fetches(commands).map((one) => `${one.chunk} of ${one.source}`);

describe("windows", () => {
  test("a new ticket is asked for two steps, and for more as receipts confirm", () => {
    const one = machine(10, device("a"));
    const first = fetches(one.poll(0));
    expect(first.map((command) => command.chunk)).toEqual([0, 1]);
    expect(one.poll(1)).toEqual([]);
    one.verified(first[0]?.request ?? 0, 50);
    expect(told(one.poll(51))).toEqual(["2 of a"]);
  });

  test("a ticket is not asked for more than it allows; then a plan is wanted, and the origin is not", () => {
    const one = machine(3, device("a", { maxBytes: MIB }));
    const [first] = fetches(one.poll(0));
    one.verified(first?.request ?? 0, 50);
    expect(one.poll(3000)).toEqual([{ do: "replan" }]);
    one.planned([device("b")], 3001);
    expect(told(one.poll(3001))).toEqual(["1 of b", "2 of b"]);
  });
});

describe("order", () => {
  test("chunks are asked for in the order in which readers want them", () => {
    const one = new Schedule(20 * MIB, MIB);
    one.planned([device("a")], 0);
    for (const chunk of [12, 13, 3]) one.want(chunk);
    expect(told(one.poll(0))).toEqual(["12 of a", "13 of a"]);
  });

  test("what no reader wants any longer is not asked for", () => {
    const one = machine(4, device("a"));
    const first = fetches(one.poll(0));
    one.forget(2);
    one.verified(first[0]?.request ?? 0, 50);
    expect(told(one.poll(50))).toEqual(["3 of a"]);
  });

  test("a reader who needs little is served by all in turn", () => {
    const one = new Schedule(9 * MIB, MIB);
    one.planned([device("a"), device("b"), device("c")], 0);
    const sources = [];
    for (let chunk = 0; chunk < 9; chunk++) {
      one.want(chunk);
      const [asked] = fetches(one.poll(chunk * 1000));
      one.verified(asked?.request ?? 0, chunk * 1000 + (asked?.source === "a" ? 50 : 90));
      sources.push(asked?.source);
    }
    expect(sources.join("")).toBe("abcabcabc");
  });

  test("many sources begin at chunks of their own", () => {
    const many = [0, 4, 8, 12, 16].map((firstChunk) => device(`d${firstChunk}`, { firstChunk }));
    const asked = told(machine(20, ...many).poll(0));
    expect(asked).toEqual(
      expect.arrayContaining(["0 of d0", "4 of d4", "8 of d8", "12 of d12", "16 of d16"]),
    );
  });
});

describe("the origin", () => {
  test("serves where there is no device, two chunks at a time", () => {
    expect(told(machine(9).poll(0))).toEqual([`0 of ${ORIGIN}`, `1 of ${ORIGIN}`]);
  });

  test("helps where a device shows no sign of life for 300 ms, and only with its share", () => {
    const one = machine(2, device("a"));
    one.poll(0);
    expect(one.poll(299)).toEqual([]);
    expect(told(one.poll(300))).toEqual([`0 of ${ORIGIN}`]);
    expect(one.poll(900)).toEqual([]); // one of two chunks is its share
  });

  test("waits for two round trips where these are long", () => {
    const one = machine(2, device("a", { rttMs: 400 }));
    one.poll(0);
    expect(one.poll(799)).toEqual([]);
    expect(told(one.poll(800))).toEqual([`0 of ${ORIGIN}`]);
  });

  test("the first good answer counts; the other is given up and not confirmed", () => {
    const one = machine(1, device("a"));
    const [slow] = fetches(one.poll(0));
    const [help] = fetches(one.poll(300));
    expect(one.verified(help?.request ?? 0, 350)).toEqual([{ do: "abort", request: slow?.request }]);
    expect(one.verified(slow?.request ?? 0, 360)).toBeUndefined();
    expect(one.isBusy).toBe(false);
  });

  test("that fails again and again, without devices, is the end", () => {
    const one = machine(1);
    let failed = 0;
    let commands: Command[] = [];
    for (let now = 0; commands[0]?.do !== "give-up"; now += 100_000) {
      commands = one.poll(now);
      for (const command of commands) {
        if (command.do === "replan") one.replanFailed(now);
        if (command.do !== "fetch") continue;
        expect(command.source).toBe(ORIGIN);
        one.failed(command.request, "broken", now);
        failed++;
      }
    }
    expect(failed).toBe(LIMITS.originFailuresMax);
    expect(one.isBusy).toBe(false);
  });
});

describe("bad devices", () => {
  test("one that sent wrong bytes is asked no more, in later plans neither", () => {
    const one = machine(4, device("a"), device("b"));
    const wrong = fetches(one.poll(0)).find((asked) => asked.source === "a");
    one.failed(wrong?.request ?? 0, "wrong", 10);
    one.planned([device("a2", { deviceId: "fd-a" }), device("b2", { deviceId: "fd-b" })], 3000);
    const sources = fetches(one.poll(3000)).map((asked) => asked.source);
    expect(sources).toContain("b2");
    expect(sources).not.toContain("a2");
  });

  test("one that dies is left, and its chunks are asked of the other at once", () => {
    const one = machine(4, device("a"), device("b"));
    const asked = fetches(one.poll(0));
    for (const lost of asked.filter((each) => each.source === "a")) one.failed(lost.request, "broken", 10);
    for (const came of asked.filter((each) => each.source === "b")) one.verified(came.request, 20);
    expect(told(one.poll(21))).toEqual(["2 of b", "0 of b"]);
  });

  test("one that is busy rests for as long as it asks", () => {
    const one = machine(1, device("a"));
    const [asked] = fetches(one.poll(0));
    one.failed(asked?.request ?? 0, "busy", 0, 5000);
    expect(told(one.poll(10))).toEqual([`0 of ${ORIGIN}`]);
  });
});

test("whatever happens, each chunk comes once and no window is exceeded", () => {
  for (let seed = 1; seed <= 60; seed++) {
    let state = seed * 2654435761;
    const random = (below: number) => {
      state = (state * 1664525 + 1013904223) % 2 ** 32;
      return Math.floor((state / 2 ** 32) * below);
    };
    const chunks = 1 + random(40);
    const one = machine(chunks, device("a"), device("b"), device("c"));
    const flying: Fetch[] = [];
    const asked = new Map<string, number>();
    const confirmed = new Map<string, number>();
    const came = new Set<number>();
    let plans = 0;
    let now = 0;
    for (let step = 0; came.size < chunks; step++) {
      expect(step).toBeLessThan(20_000);
      for (const command of one.poll(now)) {
        if (command.do === "replan") one.planned([device(`a${++plans}`), device(`b${plans}`)], now);
        if (command.do === "give-up") throw new Error("the origin never failed");
        if (command.do !== "fetch") continue;
        flying.push(command);
        if (command.source === ORIGIN) continue;
        asked.set(command.source, (asked.get(command.source) ?? 0) + MIB);
        const open = (asked.get(command.source) ?? 0) - (confirmed.get(command.source) ?? 0);
        expect(open).toBeLessThanOrEqual(unacknowledgedBytesMax(confirmed.get(command.source) ?? 0));
      }
      now += random(400);
      const [event] = flying.splice(random(flying.length), 1);
      if (event === undefined) continue;
      const kind = event.source === ORIGIN ? 9 : random(10);
      if (kind === 0) one.failed(event.request, "broken", now);
      else if (kind === 1) {
        one.failed(event.request, "busy", now, 1000);
        asked.set(event.source, (asked.get(event.source) ?? 0) - MIB);
      } else {
        const aborted = one.verified(event.request, now);
        if (aborted === undefined) continue;
        expect(came.has(event.chunk)).toBe(false);
        came.add(event.chunk);
        confirmed.set(event.source, (confirmed.get(event.source) ?? 0) + MIB);
        for (const command of aborted)
          if (command.do === "abort") {
            const at = flying.findIndex((each) => each.request === command.request);
            if (at >= 0) flying.splice(at, 1);
          }
      }
    }
    expect(one.isBusy).toBe(false);
  }
});
