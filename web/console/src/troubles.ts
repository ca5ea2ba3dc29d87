// What the server says of failures, in Chinese where it is common; else in the server's own words.
import type { Problem } from "./api";
import { language } from "./words";

const CHINESE: Record<string, readonly [title: string, remedy: string]> = {
  "token-unknown": ["服务器不认识这个令牌", "请检查是否完整、是否已被吊销；运营者可以签发新的令牌。"],
  "token-missing": ["需要登录", "请重新登录。"],
  "session-ended": ["登录已失效", "请重新登录。"],
  "not-for-console": ["控制台仅供运营者和发布者使用", "设备主人请在设备自己的页面查看积分。"],
  "too-many-tries": ["这个地址输错令牌的次数过多", "请一分钟后再用正确的令牌登录。"],
  "not-our-page": ["请求不是来自本服务器的页面", "请重新载入页面。"],
  forbidden: ["当前账户无权执行此操作", ""],
  "not-found": ["找不到所请求的内容", ""],
  "unknown-device": ["没有这台设备", ""],
  "unknown-account": ["没有这个账户", ""],
  "unknown-reward": ["没有这项奖励", "请刷新后再试。"],
  "too-many-tokens": ["这个账户的令牌过多", "请先吊销全部令牌，再签发新的。"],
  "not-prospective": ["资费只能为将来制定", "请选择更晚的生效时间。"],
  "scarcity-too-soon": ["稀缺度的更改须至少提前一周公布", "请选择更晚的生效时间。"],
  "ledger-behind": ["账本尚未得知这个账户", "请稍后再试。"],
  "with-provider": ["正在询问服务商", "请稍后再试。"],
  "already-resolved": ["该设备已被澄清", "澄清后不能再改判。"],
  "quota-exceeded": ["您的对象已占满可用空间", "请删除不再需要的对象，或请运营者增加空间。"],
  "disk-full": ["服务器空间不足", "请运营者清理或扩充磁盘。"],
  "too-large": ["内容过大", ""],
  "bad-name": ["对象的名称不可用", ""],
  "cut-short": ["上传中断", "请重新上传。"],
  "site-exists": ["已有同名站点", "请换一个名称。"],
  "too-many-sites": ["站点数量已达上限", "请先删除一个。"],
  "own-origin": ["本服务器不能作为自己的源站", ""],
  "address-refused": ["服务商的地址不被接受", "请使用公网 https 地址。"],
  "other-stock": ["库存的种类不同", "有兑换码的奖励请添加兑换码，其他的请填数量。"],
  "code-known": ["其中有已存在的兑换码", "请只填写新的兑换码。"],
  "ledger-unreachable": ["暂时无法连接账本", "请稍后再试；什么都没有丢失。"],
  "too-many-points": ["积分总量已达上限", ""],
  malformed: ["填写的内容不符合要求", ""],
  internal: ["服务器内部出错", "请稍后再试；详情见服务器日志。"],
};

export function troubleOf(problem: Problem): { title: string; remedy: string } {
  const chinese = language() === "zh" ? CHINESE[problem.slug] : undefined;
  return chinese
    ? { title: chinese[0], remedy: chinese[1] }
    : { title: problem.title, remedy: problem.remedy };
}
