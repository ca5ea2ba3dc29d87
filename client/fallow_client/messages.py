"""What ``fallow`` says to people, in English and Chinese. The English sentence is the key of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, TypeVar

import click

from .sentences import ZH_SENTENCES, ZH_STATES

C = TypeVar("C", bound=click.Command)

TERMS = """\
Terms {version}, in short:
- This device serves files to others over your idle upload, within the limits that you set. Your household comes first.
- It serves only signed content to holders of a ticket. It opens nothing of your home network to anybody.
- The scheduler learns the device's public address and how much of the line is idle; the ledger, how much was served.
- You are paid in points by a public formula. Points that were earned stay yours.
- You can pause or leave at any time, offline too.
- Upload may count against the data allowance of your internet contract, and some forbid such use: check it."""

_TERMS_ZH = """\
条款 {version} 摘要：
- 本设备在您设定的限额内，用您空闲的上行带宽向他人提供文件。您家里的使用始终优先。
- 它只向持有凭证的人提供经过签名的内容，绝不向任何人开放您的家庭网络。
- 调度服务器会知道设备的公网地址和线路的空闲程度；账本会知道提供了多少数据。
- 您按公开的公式获得积分。已获得的积分始终归您所有。
- 您可以随时暂停或退出，离线时也可以。
- 上行流量可能计入您的宽带套餐用量，有些合同禁止此类用途：请先确认。"""

EXIT_CODES = """\
\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the other side, 4 not reachable, 5 fault of the other
side, 6 download incomplete (run it again to resume), 130 interrupted.
\b
Environment: FALLOW_SCHEDULER, FALLOW_LEDGER, FALLOW_TOKEN, FALLOW_PROFILE, FALLOW_DEVICE, FALLOW_LAN_TOKEN,
FALLOW_HOME (where config.json is), LANG (English or Chinese)."""

_EXIT_CODES_ZH = """\
\b
退出码：0 完成，1 失败，2 用法错误，3 被对方拒绝，4 无法连接，5 对方故障，6 下载未完成（再次运行即可续传），130 被中断。
\b
环境变量：FALLOW_SCHEDULER、FALLOW_LEDGER、FALLOW_TOKEN、FALLOW_PROFILE、FALLOW_DEVICE、FALLOW_LAN_TOKEN、
FALLOW_HOME（config.json 所在目录）、LANG（英文或中文）。"""

ZH: dict[str, str] = {
    TERMS: _TERMS_ZH,
    # ------------------------------------------------------------- sentences
    "error": "错误",
    "interrupted": "已中断",
    "Do you accept these terms?": "您接受这些条款吗？",
    "Setup code of the device": "设备的设置码",
    "Token": "令牌",
    "Unbind {device}?": "要解绑 {device} 吗？",
    "{device} is active. Its token is kept for further commands.": "{device} 已激活。令牌已保存，供后续命令使用。",
    "Paired with {device}.": "已与 {device} 配对。",
    "Nothing here yet.": "这里还没有内容。",
    "No device answers on this network. Multicast may be blocked; try --device.": (
        "本网络上没有设备应答。组播可能被阻止；请试用 --device。"
    ),
    "Profile {profile}: {scheduler} (version {version}), kept in {path}.": (
        "配置 {profile}：{scheduler}（版本 {version}），已保存到 {path}。"
    ),
    "Forgotten.": "已忘记。",
    "Deleted.": "已删除。",
    "Cancelled.": "已取消。",
    "Revoked.": "已吊销。",
    "Unbound.": "已解绑。",
    "On no device yet.": "还没有在任何设备上。",
    "no limit": "不限",
    "always": "始终",
    "every chunk, against the signed manifest": "每个分块都已对照签名清单校验",
    "Examples:": "示例：",
    "Example:": "示例：",
    # ------------------------------------------------------------- headings
    "Paused until": "暂停至",
    "Claim token": "认领令牌",
    "Valid until": "有效期至",
    "Publisher": "发布者",
    "Deposited": "已充值",
    "Escrow": "托管余额",
    "Spent": "已使用",
    "Held": "暂时保留",
    "Vested": "可以兑换",
    "Redeeming": "兑换中",
    "Id": "编号",
    "Url": "网址",
    "Created at": "创建时间",
    "Deadline": "截止时间",
    "Waiting": "等待原因",
    "Funded": "余额充足",
    "Chunks": "分块数",
    "Replicas wanted": "期望副本数",
    "Sum": "合计",
    "Accounts": "账户数",
    "Settlements": "结算数",
    "Booked": "已入账",
    "Recomputed": "重新核算",
    "Differences": "差异",
    "Reserved": "已预留",
    "Stock": "库存",
    "Device": "设备",
    "Device id": "设备编号",
    "Owner": "主人",
    "Connected": "在线",
    "Reachable": "可达",
    "Objects": "对象数",
    "Model": "型号",
    "Last seen": "最近在线",
    "State": "状态",
    "Address": "地址",
    "Name": "名称",
    "Scheduler": "调度服务器",
    "Upload line": "上行线路",
    "Household uses": "家庭正在使用",
    "Fallow uses": "Fallow 正在使用",
    "Fallow may use": "Fallow 可以使用",
    "Content": "内容",
    "Serves nobody": "暂不提供服务",
    "Processor and heat leave": "处理器和温度允许",
    "Temperature": "温度",
    "Connections": "连接数",
    "Turned away today": "今日拒绝的连接",
    "Written today": "今日写入",
    "Free disk": "可用磁盘",
    "Sessions": "会话",
    "Served today": "今日提供",
    "Yields today": "今日让路次数",
    "not seen from here; a queue tells": "从这里看不到；由排队时延判断",
    "Do-no-harm record": "无扰记录",
    "{days} days, signed by {device}": "{days} 天，由 {device} 签名",
    "not to be believed: {reason}": "不可信：{reason}",
    "Hours shared": "共享小时数",
    "Yields to the household": "为家人让路次数",
    "Time to yield": "让路用时",
    "at most": "最长",
    "Minutes over budget": "超出预算的分钟数",
    "Added round trip": "增加的往返时延",
    "not compared yet": "尚未比较",
    "Measuring the download …": "正在测量下行……",
    "Measuring the upload …": "正在测量上行……",
    "Upload": "上行",
    "Download": "下行",
    "Speed test": "测速",
    "Measured at": "测量时间",
    "The household meanwhile": "测量期间家人用网",
    "nobody else used it": "没有其他使用",
    "not seen from here; make sure that nobody uses it": "从这里看不到；请确认无人使用网络",
    "it was used meanwhile": "测量期间有人使用",
    "Proofs waiting": "待提交的凭据",
    "Upload at most": "上行上限",
    "Share of the upload": "上行占比",
    "Traffic in a month": "每月流量",
    "Disk for content": "内容占用磁盘",
    "Consumers at once": "同时服务数",
    "Hours": "时段",
    "Services": "服务",
    "Held back for now": "暂时保留",
    "Yours to redeem": "可以兑换",
    "Being redeemed": "兑换中",
    "Redeemed": "已兑换",
    "Code": "兑换码",
    "Age of these figures": "数据时效",
    "Reward": "奖励",
    "Title": "名称",
    "Points": "积分",
    "Left": "剩余",
    "Redemption": "兑换",
    "Object": "对象",
    "Size": "大小",
    "Type": "类型",
    "Task": "任务",
    "Kind": "种类",
    "Replicas": "副本",
    "Site": "站点",
    "Origin": "源站",
    "Bytes done": "已完成",
    "Reason": "原因",
    "File": "文件",
    "Was there": "原已存在",
    "Time": "用时",
    "Verified": "已校验",
    "Account": "账户",
    "Role": "角色",
    "Tariff": "费率",
    "Version": "版本",
    "Valid from": "生效时间",
    # ------------------------------------------------------------- help of commands
    "Fallow puts the idle line of home devices to work, and pays their owners in points.": (
        "Fallow 利用家用设备的空闲线路，并以积分回报设备的主人。"
    ),
    "Find the devices on this network (mDNS).": "查找本网络上的设备（mDNS）。",
    "Get a claim token, to activate a device where you are not logged in. It works once, for ten minutes.": (
        "取得认领令牌，用于在未登录的地方激活设备。只能使用一次，十分钟内有效。"
    ),
    "Bind a device to your account, with your consent.": "经您同意，把设备绑定到您的账户。",
    "Get a token for a device that another phone activated.": "为另一部手机已激活的设备取得令牌。",
    "What the device does now: line, disk, sessions, proofs.": "设备当前状况：线路、磁盘、会话、凭据。",
    "Measure what your line carries. It moves up to 512 MiB each way, and takes the line for 20 seconds.": (
        "测量线路的实际速率。上下行各最多传输 512 MiB，占用线路约 20 秒。"
    ),
    "Show what the device may use, or change it.": "查看或修改设备的使用限额。",
    "Stop serving at once. Points are kept.": "立即停止服务。积分保留。",
    "Serve again after a pause.": "暂停后恢复服务。",
    "Unbind the device: it hands over its last proofs and forgets you and its content. Points stay yours.": (
        "解绑设备：它会交出最后的凭据，并忘记您和内容。积分仍归您所有。"
    ),
    "Your points, as the ledger has them.": "账本中您的积分。",
    "What points can be redeemed for.": "积分可以兑换什么。",
    "Redeem REWARD (its id) with your points.": "用您的积分兑换 REWARD（奖励编号）。",
    "Publish FILE, or the http address of a file below a registered site.": (
        "发布 FILE，或已登记站点下某个文件的 http 地址。"
    ),
    "Your objects: list, show, delete.": "您的对象：列出、查看、删除。",
    "List your objects.": "列出您的对象。",
    "Show an object and where it is.": "查看一个对象及其所在位置。",
    "Delete an object, here and on the devices.": "从服务器和设备上删除一个对象。",
    "Origins that may be pulled from: list, add, delete.": "可以拉取的源站：列出、添加、删除。",
    "List your sites.": "列出您的站点。",
    "Mirror ORIGIN below /s/NAME/.": "在 /s/NAME/ 下镜像 ORIGIN。",
    "Stop mirroring a site.": "停止镜像一个站点。",
    "Network tasks: list, show, add, cancel.": "网络任务：列出、查看、添加、取消。",
    "List your tasks.": "列出您的任务。",
    "Show a task and its progress on each device.": "查看任务及其在每台设备上的进度。",
    "Ask the network for something.": "向网络提交任务。",
    "Cancel a task.": "取消任务。",
    "Fetch an object from several devices at once. WHAT is its address, or its id with --scheduler.": (
        "同时从多台设备下载一个对象。WHAT 是它的地址，或配合 --scheduler 使用的编号。"
    ),
    "Run the network: accounts, deposits, tariffs, rewards, redemptions, fleet, books.": (
        "运营网络：账户、充值、费率、奖励、兑换、设备、账目。"
    ),
    "Accounts and their tokens: list, create, token, revoke.": "账户及其令牌：列出、创建、发放令牌、吊销。",
    "The devices: list, unbind.": "设备：列出、解绑。",
    "Put AMOUNT points into a publisher's escrow.": "为发布者的托管账户充入 AMOUNT 积分。",
    "The points formula: show, set.": "积分公式：查看、设定。",
    "What points can be redeemed for: list, add.": "积分可以兑换什么：列出、添加。",
    "Redemptions: list, resolve.": "兑换：列出、处理。",
    "Recompute the books. Fails unless all accounts sum to zero and nothing differs.": (
        "重新核算账目。所有账户之和不为零或存在差异时失败。"
    ),
    "Remember an account's token, in a file that only you can read.": "保存账户令牌，文件只有您能读取。",
    "Forget a profile and its token.": "忘记一个配置及其令牌。",
    "List accounts.": "列出账户。",
    "Make an account. Its token is shown once.": "创建账户。令牌只显示一次。",
    "Make a further token for an account. It is shown once.": "为账户再发放一个令牌，只显示一次。",
    "Revoke all tokens of an account.": "吊销账户的全部令牌。",
    "What the ledger holds for an account, in points.": "账本中某账户的余额（积分）。",
    "List devices.": "列出设备。",
    "Unbind a device that is lost.": "解绑丢失的设备。",
    "Show the tariff in force, or another; its signature is verified.": "查看现行或其他费率，并校验其签名。",
    "Add a tariff from a JSON FILE: valid_from, rates, weights, legacy_caps. It holds for later service only.": (
        "从 JSON 文件添加费率：valid_from、rates、weights、legacy_caps。只对以后的服务有效。"
    ),
    "List rewards.": "列出奖励。",
    "Offer a reward for PRICE points.": "以 PRICE 积分提供一项奖励。",
    "List redemptions.": "列出兑换。",
    "Say how a redemption ended. Voided gives the points back.": "记录兑换结果。作废会退回积分。",
    "Owner:      devices, claim, activate, pair, status, speedtest, limits, pause, resume, leave,": (
        "主人：      devices, claim, activate, pair, status, speedtest, limits, pause, resume, leave,"
    ),
    "Publisher:  publish, objects, sites, tasks": "发布者：    publish, objects, sites, tasks",
    "Consumer:   fetch": "使用者：    fetch",
    "Operator:   operator …": "运营者：    operator …",
    EXIT_CODES: _EXIT_CODES_ZH,
    # ------------------------------------------------------------- help of options
    "How long to listen, in seconds.": "监听多少秒。",
    "On the device's label; or: fallow-agent setup-code.": "在设备标签上；或运行 fallow-agent setup-code。",
    "On its label.": "在设备标签上。",
    "From the scheduler; made for you when logged in.": "来自调度服务器；登录后会自动生成。",
    "You have read the terms and accept them (for scripts).": "您已阅读并接受条款（用于脚本）。",
    "Share of the upload that may be used.": "可以使用的上行占比。",
    "Go on showing it until Ctrl-C.": "持续显示，直到按 Ctrl-C。",
    "Also where bytes cost money, or the month's are used up.": "即使流量计费或本月流量已用完也执行。",
    "Upload at most, in Mbit/s.": "上行上限，单位 Mbit/s。",
    "Traffic in a month at most, in GB: served and fetched.": "每月流量上限（提供与取回合计），单位 GB。",
    "Disk for content at most, in GB.": "内容占用磁盘上限，单位 GB。",
    "Consumers at once, at most.": "同时服务数上限。",
    "When it may serve, such as 0-4@22:00-06:00; may be given again.": "可服务的时段，如 0-4@22:00-06:00；可重复给出。",
    "Allow or refuse a service: object=on, fill=off.": "允许或拒绝某项服务：object=on、fill=off。",
    "Back to the default.": "恢复默认值。",
    "For so long, such as 90m, 2h or 1d; else until resumed.": "暂停多久，如 90m、2h、1d；否则直到恢复。",
    "Do not ask.": "不再询问。",
    "Idempotency key: the same key again redeems nothing twice.": "幂等键：相同的键不会重复兑换。",
    "Idempotency key: the same key again deposits nothing twice.": "幂等键：相同的键不会重复充值。",
    "Print JSON.": "输出 JSON。",
    "The scheduler's address.": "调度服务器的地址。",
    "The ledger's address.": "账本的地址。",
    "The ledger's address, for operators.": "账本的地址（运营者需要）。",
    "The account's token; - reads it from standard input.": "账户令牌；- 表示从标准输入读取。",
    "Name it, such as publisher or operator.": "配置名称，如 publisher 或 operator。",
    "Which login to use.": "使用哪个登录配置。",
    "Which login to forget.": "忘记哪个登录配置。",
    "The device: address, id, or the end of its id.": "设备：地址、编号或编号的末尾。",
    "The object's name in its address; the file's name where left out.": "地址中的对象名称；省略时为文件名。",
    "Media type; by the file's name where left out.": "媒体类型；省略时按文件名判断。",
    "So many devices are to hold it.": "由多少台设备保存。",
    "The object's id.": "对象编号。",
    "On so many devices.": "在多少台设备上。",
    "To be done within so many minutes.": "须在多少分钟内完成。",
    "File or directory to write to; - for standard output.": "写入的文件或目录；- 表示标准输出。",
    "No progress bar.": "不显示进度条。",
    "How many there are; no limit where left out.": "数量；省略则不限。",
    "Show this message and exit.": "显示此帮助并退出。",
    "Show the version and exit.": "显示版本并退出。",
}


def language_of(environ: Mapping[str, str]) -> str:
    """``zh`` or ``en``, as POSIX orders the variables."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return "zh" if environ[name].lower().startswith("zh") else "en"
    return "en"


def _help_option(text: str) -> click.Option:
    """Click's own, with another text."""

    def show(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()

    return click.Option(["-h", "--help"], is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)


class Messages:
    """Call it with an English sentence; what the catalogue does not have stays English."""

    def __init__(self, language: str) -> None:
        self._catalogue = ZH if language == "zh" else {}

    def __call__(self, english: str, **values: Any) -> str:
        text = self._catalogue.get(english, english)
        return text.format(**values) if values else text

    def state(self, word: str) -> str:
        """A word for a state or role; any other text stays as it is."""
        return ZH_STATES.get(word, word) if self._catalogue else word

    def sentence(self, english: str) -> str:
        """What went wrong or what to do, which may name things; unknown sentences stay English. Of several parts
        joined by colons, each is looked up."""
        if not self._catalogue:
            return english
        for key in (english, english.removesuffix(".")):
            if key in ZH_SENTENCES:
                return ZH_SENTENCES[key]
        for template, chinese in ZH_SENTENCES.items():
            if "{}" in template:
                found = re.fullmatch("(.+?)".join(map(re.escape, template.split("{}"))), english.removesuffix("."))
                # A colon would be of another part: "fd-a: The setup code …".
                if found and not any(": " in part for part in found.groups()):
                    return chinese.format(*found.groups())
        first, colon, rest = english.partition(": ")
        if not colon:
            return english
        parts = self.sentence(first), self.sentence(rest)
        return "：".join(parts) if parts != (first, rest) else english

    def help_text(self, text: str) -> str:
        """The first paragraph is a sentence of the catalogue; of the rest, headings are."""
        first, blank, rest = cleandoc(text).partition("\n\n")
        lines = [self(line) for line in rest.split("\n")]
        return self(first) + blank + "\n".join(lines)

    def localised(self, command: C) -> C:
        """``command`` and all below it, their help translated in place: give it a copy."""
        if not self._catalogue:
            return command
        if command.help:
            command.help = self.help_text(command.help)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                parameter.help = self(parameter.help or "") or None
                if parameter.prompt:
                    parameter.prompt = self(parameter.prompt)
        if command.epilog:
            command.epilog = self(command.epilog)
        if command.add_help_option:
            command.add_help_option = False
            command.params.append(_help_option(self("Show this message and exit.")))
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                self.localised(inner)
        return command
