// What the page says, in both languages.
import type { Text } from "../../../shared/language";

export const TEXTS = {
  from: ["Where it comes from", "数据来源"],
  home: ["Home {n}", "家庭 {n}"],
  homeIn: ["Home {n} · {country}", "家庭 {n} · {country}"],
  origin: ["The publisher's server", "发布者的服务器"],
  share: ["{percent} % from {homes} homes", "{percent}% 来自 {homes} 个家庭"],
  shareOfOne: ["{percent} % from one home", "{percent}% 来自 1 个家庭"],
  shareOfNone: ["All from the publisher's server", "全部来自发布者的服务器"],
  nothing: ["Nothing has come yet", "尚未收到数据"],
  opening: ["Opening…", "正在打开…"],
  playing: ["Playing", "正在播放"],
  happened: ["What happened", "事件记录"],
  quiet: ["Nothing out of the ordinary", "一切正常"],
  lost: ["{source} stopped sending; others took over", "{source}停止发送，已由其他来源接替"],
  refused: [
    "{source} sent bytes that are not the video's; they were thrown away",
    "{source}发来的数据与视频不符，已被丢弃",
  ],
  barred: [
    "This page was opened by https, and homes send by http: your browser does not allow that. Everything comes from the publisher's server.",
    "本页面通过 https 打开，而家庭设备使用 http 发送，浏览器不允许这样混用。所有数据均来自发布者的服务器。",
  ],
  plainly: [
    "This browser cannot take the video apart. It plays it directly, and what came from where cannot be shown.",
    "此浏览器无法分段处理该视频，正在直接播放，无法显示数据来源。",
  ],
  missing: ["There is no such video here.", "这里没有该视频。"],
  failed: ["It does not play: {reason}", "无法播放：{reason}"],
  again: ["Try again", "重试"],
  about: ["What you see here", "说明"],
  aboutBytes: [
    "The video comes from homes whose owners lend their idle line. Your browser checks every part against the publisher's signed list before it plays, and confirms to each home what it got; that is what the owner is paid for.",
    "视频来自愿意分享闲置带宽的家庭。浏览器在播放前会对照发布者签名的清单核对每一部分，并向各家庭确认所收到的数据，设备主人据此获得积分。",
  ],
  aboutYou: [
    "A home that sends to you sees your address while it sends, as any web server does. It keeps none.",
    "向您发送数据的家庭在发送时能看到您的地址，与任何网站服务器一样，但不会保存。",
  ],
  language: ["中文", "English"],
} satisfies Record<string, Text>;
