// What went wrong, in the owner's words. A slug that is not known here is told in the device's own.
import type { Text } from "../../shared/language";
import type { Problem } from "./device";

const KNOWN: Record<string, Text> = {
  "device-away": [
    "The device does not answer. Is it switched on, and is this phone in your home's Wi-Fi?",
    "设备没有响应。请确认设备已通电，并且手机连接的是家里的 Wi-Fi。",
  ],
  "server-away": [
    "The server does not answer. Check its address and this phone's internet connection.",
    "服务器没有响应。请检查服务器地址和手机的网络连接。",
  ],
  "bad-answer": ["There was no sensible answer. Try again in a moment.", "收到的答复无法识别，请稍后再试。"],
  "wrong-setup-code": [
    "This setup code is not right. Look at the device's label.",
    "设置码不正确，请查看设备标签。",
  ],
  "setup-code-locked": [
    "There were too many wrong codes. Restart the device, then try again.",
    "错误次数过多。请重启设备后再试。",
  ],
  "already-activated": ["This device is already in use.", "此设备已被激活。"],
  "unknown-phone": ["The device does not know this phone any more.", "设备已不认识这部手机。"],
  "wrong-password": [
    "Name or password is not right. If you lost the password, your operator can help.",
    "用户名或密码不正确。如果忘记密码，请联系运营者。",
  ],
  "login-taken": [
    "This name is taken. Choose another, or sign in if it is yours.",
    "该用户名已被使用。请换一个；如果是您的，请直接登录。",
  ],
  "registration-closed": [
    "Here the operator makes the accounts. Ask for one, then sign in.",
    "此服务器的账户由运营者创建。请先申请账户，再登录。",
  ],
  "too-many-tries": ["Too many tries. Wait a few minutes, then try again.", "尝试次数过多，请几分钟后再试。"],
  "too-many": ["There is a crowd just now. Try again in a moment.", "现在人多，请稍后再试。"],
  "token-unknown": [
    "The server does not know this key. Check that it is complete.",
    "服务器不认识此密钥，请检查是否完整。",
  ],
  forbidden: ["This key is not an owner's.", "此密钥不是主人账户的。"],
  "too-many-claims": [
    "You began too many activations. Wait ten minutes, then try again.",
    "您开始的激活过多，请十分钟后再试。",
  ],
  "claim-expired": [
    "That took longer than ten minutes. Sign in once more.",
    "操作超过了十分钟，请重新登录。",
  ],
  "claim-used": [
    "This sign-in was used for another device. Sign in once more.",
    "此次登录已用于另一台设备，请重新登录。",
  ],
  "claim-unknown": [
    "The server does not know this sign-in. Sign in once more.",
    "服务器不认识此次登录，请重新登录。",
  ],
  "already-bound": [
    "The server says that this device belongs to somebody else. Its owner, or the operator, can release it.",
    "服务器显示此设备属于他人。请由原主人或运营者解除绑定。",
  ],
  "scheduler-unreachable": [
    "The device cannot reach the server. It goes on trying; check your home's internet connection.",
    "设备无法连接服务器，正在继续尝试。请检查家里的网络。",
  ],
  "scheduler-away": [
    "The device cannot reach the server just now. It goes on trying; nothing is lost.",
    "设备暂时无法连接服务器，正在继续尝试，不会有任何损失。",
  ],
  "session-refused": [
    "The server turns this device away. Ask the operator.",
    "服务器拒绝了此设备，请联系运营者。",
  ],
  "session-replaced": [
    "The server sees this device twice. Ask the operator.",
    "服务器检测到此设备重复连接，请联系运营者。",
  ],
  "ledger-away": [
    "The points cannot be looked up just now. None is lost.",
    "暂时无法查询积分，积分不会丢失。",
  ],
  "not-enough-points": ["You do not have enough points for this yet.", "您的积分还不够。"],
  "out-of-stock": ["There is none left of this one.", "该奖励已兑完。"],
  "unknown-reward": ["This one is no longer offered.", "该奖励已下架。"],
  "under-review": [
    "Redeeming rests for a while: the operator is checking the books.",
    "运营者正在核对账目，兑换暂停。",
  ],
  "too-many-pages": ["Too many pages are open. Close one of them.", "打开的页面过多，请关闭一些。"],
  "not-active": ["The device has no owner just now.", "设备当前没有主人。"],
  "carrier-nat": [
    "Your provider shares one address among many homes, so few can reach the device. Ask your provider for a public IPv4 address.",
    "您的运营商让多户共用一个地址，外面很难连到设备。请向运营商申请公网 IPv4 地址。",
  ],
  "no-public-address": [
    "Your router has no address of its own on the internet. Look for a second router before it, or ask your provider for a public address.",
    "您的路由器没有公网地址。请检查前面是否还有一台路由器，或向运营商申请公网地址。",
  ],
  "second-router": [
    "There is a second router before yours. Forward the port in that one too, or switch it to bridge mode.",
    "您的路由器前面还有一台路由器。请在那台上也转发端口，或将其改为桥接模式。",
  ],
  "no-port-protocol": [
    "Your router does not let devices open ports. Turn on UPnP in its settings, or forward TCP port 32557 by hand.",
    "您的路由器不允许设备打开端口。请在其设置中开启 UPnP，或手动转发 TCP 端口 32557。",
  ],
  "port-refused": [
    "Your router refused to open the port. Allow it for this device in the router's settings.",
    "您的路由器拒绝打开端口。请在路由器设置中允许此设备。",
  ],
  "port-closed": [
    "Forward TCP port 32557 to this device in your router.",
    "请在路由器中把 TCP 端口 32557 转发到此设备。",
  ],
  "port-open-in-vain": [
    "The port is open in your router, and still nobody gets through. Look for a firewall.",
    "路由器已打开端口，但外面仍连不进来。请检查防火墙。",
  ],
  "forwarded-in-vain": [
    "The port is forwarded, and still nobody gets through. Check the forwarding in your router.",
    "端口已转发，但外面仍连不进来。请检查路由器的转发设置。",
  ],
  firewall: [
    "A firewall keeps others away. Open TCP port 32557 in it.",
    "防火墙挡住了外面的连接。请放行 TCP 端口 32557。",
  ],
};

export function explain(problem: Problem): Text {
  const known = KNOWN[problem.type];
  if (known) return known;
  const told = [problem.title ?? problem.type, problem.detail, problem.remedy].filter(Boolean).join(". ");
  return [told, told];
}
