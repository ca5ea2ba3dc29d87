// Uploads, one after another, with progress. The browser streams each file from the disk, however large it is.
import { address, headersOf, type Problem, problemOf, unreachable } from "./api";

export interface Upload {
  id: number;
  file: File;
  state: "waiting" | "sending" | "done" | "failed" | "cancelled";
  sent: number;
  problem?: Problem;
  url?: string;
}

export const WAITING_MAX = 500;

/** A queue of files; `changed` hears of every step. */
export class Uploads {
  private list: readonly Upload[] = [];
  private running: XMLHttpRequest | undefined;
  private next = 1;

  constructor(
    private readonly changed: (uploads: readonly Upload[]) => void,
    private readonly published: () => void,
  ) {}

  /** How many of `files` found no room in the queue. */
  add(files: readonly File[]): number {
    const open = this.list.filter((one) => one.state === "waiting" || one.state === "sending").length;
    const taken = files.slice(0, Math.max(0, WAITING_MAX - open));
    this.list = [
      ...this.list,
      ...taken.map((file) => ({ id: this.next++, file, state: "waiting" as const, sent: 0 })),
    ];
    this.step();
    return files.length - taken.length;
  }

  retry(id: number): void {
    const found = this.list.find((one) => one.id === id);
    if (!found) return;
    this.list = this.list.filter((one) => one.id !== id);
    this.add([found.file]);
  }

  cancel(id: number): void {
    const found = this.list.find((one) => one.id === id);
    if (found?.state === "sending") this.running?.abort();
    else if (found?.state === "waiting") this.change(id, { state: "cancelled" });
  }

  clear(): void {
    this.list = this.list.filter((one) => one.state === "waiting" || one.state === "sending");
    this.changed(this.list);
  }

  /** Ends what is under way. */
  close(): void {
    this.list = [];
    this.running?.abort();
  }

  private change(id: number, changes: Partial<Upload>): void {
    this.list = this.list.map((one) => (one.id === id ? { ...one, ...changes } : one));
    this.changed(this.list);
  }

  private step(): void {
    this.changed(this.list);
    if (this.running) return;
    const upload = this.list.find((one) => one.state === "waiting");
    if (!upload) return;
    const request = new XMLHttpRequest();
    this.running = request;
    this.change(upload.id, { state: "sending", sent: 0 });
    request.open("POST", address(`/v1/objects?name=${encodeURIComponent(upload.file.name)}`));
    for (const [name, value] of Object.entries(headersOf())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", upload.file.type || "application/octet-stream");
    request.upload.onprogress = (event) => this.change(upload.id, { sent: event.loaded });
    request.onload = () => {
      if (request.status < 300) {
        const url = (JSON.parse(request.responseText) as { url: string }).url;
        this.change(upload.id, { state: "done", sent: upload.file.size, url });
        this.published();
      } else {
        this.change(upload.id, { state: "failed", problem: problemOf(request.status, request.responseText) });
      }
    };
    request.onerror = () => this.change(upload.id, { state: "failed", problem: unreachable() });
    request.onabort = () => this.change(upload.id, { state: "cancelled" });
    request.onloadend = () => {
      this.running = undefined;
      this.step();
    };
    request.send(upload.file);
  }
}
