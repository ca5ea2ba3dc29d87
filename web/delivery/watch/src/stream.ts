// A film or a live stream in HLS, played by hls.js with our loader.
import Hls from "hls.js";
import { type FallowEvent, hlsLoader } from "../../src/fallow";

/** Play the playlist until `signal` ends it.
 *
 * @throws Error when it cannot be played any further. */
export async function playStream(
  video: HTMLVideoElement,
  playlist: string,
  onEvent: (event: FallowEvent) => void,
  signal: AbortSignal,
): Promise<never> {
  if (!Hls.isSupported()) throw new Error("Media Source Extensions are missing");
  // A worker from a blob would need an exception in the content security policy.
  const hls = new Hls({ loader: hlsLoader(onEvent), enableWorker: false });
  try {
    return await new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      hls.on(Hls.Events.ERROR, (_event, data) => {
        if (!data.fatal) return;
        if (data.type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
        else reject(new Error(data.details));
      });
      hls.loadSource(playlist);
      hls.attachMedia(video);
    });
  } finally {
    hls.destroy();
  }
}
