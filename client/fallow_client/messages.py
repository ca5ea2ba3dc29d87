"""What ``fallow`` says to people, in English and Chinese. The English sentence is the key of the catalogue."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, TypeVar

import click

from .headings import ZH_HEADINGS
from .sentences import ZH_REASONS, ZH_SENTENCES, ZH_STATES

C = TypeVar("C", bound=click.Command)

TERMS = """\
Terms {version}, in short:
- This device serves files to others over your idle upload, within the limits that you set. Your household comes first.
- It serves only signed content to holders of a ticket. It opens nothing of your home network to anybody.
- It measures, seldom and briefly, how public addresses that publishers name are reached from here; you can refuse that.
- The scheduler learns the device's public address and how much of the line is idle; the ledger, how much was served.
- You are paid in points by a public formula. Points that were earned stay yours.
- You can pause or leave at any time, offline too.
- Upload may count against the data allowance of your internet contract, and some forbid such use: check it."""

_TERMS_ZH = """\
条款 {version} 摘要：
- 本设备在您设定的限额内，用您空闲的上行带宽向他人提供文件。您家里的使用始终优先。
- 它只向持有凭证的人提供经过签名的内容，绝不向任何人开放您的家庭网络。
- 它偶尔短暂测量从您的线路访问发布者所指定公网地址的情况；您可以拒绝此项。
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
    **ZH_HEADINGS,
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
    "Network tasks: add, list, show, why, results, cancel.": "网络任务：添加、列出、查看、原因、结果、取消。",
    "Why a task is where it is: which devices were refused by what, and how the others compared.": (
        "任务为何如此分配：哪些设备因何被排除，其余设备如何比较。"
    ),
    "What devices measured for a probe, in milliseconds.": "设备的探测结果（毫秒）。",
    "It wants more devices. As of now:": "还需要更多设备。当前情况：",
    "Decided at {at}:": "决定于 {at}：",
    "Nothing was decided yet: it is {state}.": "尚未作出决定：状态为 {state}。",
    "{wanted} wanted; {fit} of {looked} devices that were looked at could do it.": (
        "需要 {wanted} 台；查看了 {looked} 台设备，其中 {fit} 台可以执行。"
    ),
    "No device has measured yet.": "还没有设备完成测量。",
    "List your tasks.": "列出您的任务。",
    "Show a task and its progress on each device.": "查看任务及其在每台设备上的进度。",
    "Ask the network for something.": "向网络提交任务。",
    "Cancel a task.": "取消任务。",
    "Fetch an object from several devices at once. WHAT is its address, or its id with --scheduler.": (
        "同时从多台设备下载一个对象。WHAT 是它的地址，或配合 --scheduler 使用的编号。"
    ),
    "Run the network: accounts, deposits, tariffs, rewards, redemptions, reviews, fleet, books.": (
        "运营网络：账户、充值、费率、奖励、兑换、审查、设备、账目。"
    ),
    "Accounts and their tokens: list, create, token, revoke.": "账户及其令牌：列出、创建、发放令牌、吊销。",
    "The devices: list, unbind.": "设备：列出、解绑。",
    "Put AMOUNT points into a publisher's escrow.": "为发布者的托管账户充入 AMOUNT 积分。",
    "The points formula: show, set.": "积分公式：查看、设定。",
    "What points can be redeemed for: list, add, stock, withdraw.": "积分可以兑换什么：列出、添加、补货、下架。",
    "Add to the stock of a reward.": "为奖励补货。",
    "Offer a reward no longer. What was redeemed before goes on.": "下架一项奖励。此前的兑换继续办理。",
    "What you redeemed, newest first, with codes.": "您的兑换记录（最新在前）及兑换码。",
    "Your monthly statements, signed by the ledger; without MONTH, which there are.": (
        "由账本签名的月度对账单；不给 MONTH 时列出有哪些月份。"
    ),
    "How the points of one delivery (its ticket's id) came about, and what they would have been otherwise.": (
        "一次传输（凭证编号）的积分如何得出，以及在其他情况下会是多少。"
    ),
    "Redemptions: list, resolve.": "兑换：列出、处理。",
    "Restores from backups, and what devices had that the ledger has not: list, reviewed.": (
        "从备份的恢复，以及设备有而账本没有的内容：列出、确认。"
    ),
    "List restores, and the batches that were missing.": "列出历次恢复和缺失的批次。",
    "Say that you have looked at what a restore lost: redemptions go on. AT is its id; the newest where left out.": (
        "确认已核对某次恢复所丢失的内容：兑换继续。AT 为其编号；省略则为最近一次。"
    ),
    "Batches that devices had acknowledged, from the first missing up to the next:": (
        "设备曾获确认的批次，从首个缺失到下一个："
    ),
    "The daily reports. Fails unless the newest is sound and of yesterday, so that it can watch from cron.": (
        "每日报告。最新一份不健全或不是昨天的则失败，可用于 cron 监视。"
    ),
    "So many of them.": "显示多少份。",
    "Day": "日期",
    "Sound": "账目相符",
    "Supply": "总发行",
    "Unaccounted": "去向不明",
    "Unknown": "结果未知",
    "Backup of": "备份时间",
    "Reviewed": "已确认",
    "First missing": "首个缺失",
    "Next": "下一个",
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
    "The points formula: list, show, diff, publish.": "积分公式：列出、查看、比较、发布。",
    "List tariffs, newest first, those that are announced too.": "列出费率，最新的在前，包括已预告的。",
    "What the tariff in a JSON FILE would have paid each owner last week, against what was paid. Publishes nothing.": (
        "比较：若采用 JSON 文件中的费率，上周每位主人会得到多少，与实际所得相比。不会发布任何内容。"
    ),
    "Show every owner, and not those alone whose points change most.": "显示所有主人，而不只是积分变化最大的。",
    "Going through last week: {percent} %": "正在核算上周：{percent} %",
    "Nobody was paid last week.": "上周没有人获得积分。",
    "{count} owners more: add --all.": "另有 {count} 位主人：请加上 --all。",
    "Publish the tariff in a JSON FILE. It holds for later service only, and other scarcity a week ahead.": (
        "发布 JSON 文件中的费率。只对以后的服务有效；稀缺系数的变动须提前一周公布。"
    ),
    "From {count} agreeing audits on": "连续 {count} 次抽查相符起",
    "From {share} % of the promised rate on": "达到承诺速率的 {share} % 起",
    "{share} % of the promised rate": "承诺速率的 {share} %",
    "elsewhere": "其他地区",
    "What looks wrong about your devices, why, and what the operator decided.": (
        "您的设备有哪些可疑之处、原因，以及运营者的决定。"
    ),
    "Nothing looks wrong.": "没有可疑之处。",
    "What canaries found, newest first: the server's own, and yours.": "抽查结果，最新的在前：服务器自身的和您的。",
    "Of this device alone.": "只看这台设备。",
    "What looks wrong about devices: list, show, decide.": "设备的可疑之处：列出、查看、裁定。",
    "List what is to be decided, oldest first.": "列出待裁定的事项，最早的在前。",
    "Those that were decided, too.": "也包括已裁定的。",
    "Nothing is to be decided.": "没有待裁定的事项。",
    "Show a review: why, and what is at stake.": "查看一项审查：原因以及涉及的积分。",
    "Decide a review: cleared closes it for good; upheld takes back what is still held of the device.": (
        "裁定一项审查：cleared 表示排除嫌疑，不再追究；upheld 表示属实，追回该设备仍被暂时保留的积分。"
    ),
    "Take back what is still held of one settlement (its ticket's id). REASON is told to its owner.": (
        "追回一笔结算（凭证编号）中仍被暂时保留的积分。REASON 会告知其主人。"
    ),
    "Idempotency key: the same key again takes nothing back twice.": "幂等键：重复使用同一个键不会重复追回。",
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
    "The origin served all of it.": "全部由源站提供。",
    "So many chunks.": "抓取多少个分块。",
    "Fetch chunks of WHAT as a consumer without receipts would, and tell the ledger what devices brought.": (
        "像不签收据的使用者那样抓取 WHAT 的分块，并把设备的表现告知账本。"
    ),
    "Auditor:    verify": "审计者：    verify",
    "Compute a ledger again, offline: chain, sums, and every settlement from its stored inputs.": (
        "离线重新核算账本：哈希链、合计，以及依据所存输入的每一笔结算。"
    ),
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
    "Allow or refuse a service: object=on, fill=off, probe=off.": (
        "允许或拒绝某项服务：object=on、fill=off、probe=off。"
    ),
    "Back to the default.": "恢复默认值。",
    "For so long, such as 90m, 2h or 1d; else until resumed.": "暂停多久，如 90m、2h、1d；否则直到恢复。",
    "Do not ask.": "不再询问。",
    "Idempotency key: the same key again redeems nothing twice.": "幂等键：相同的键不会重复兑换。",
    "Idempotency key: the same key again deposits nothing twice.": "幂等键：相同的键不会重复充值。",
    "Fetch the books from the ledger into FILE first (operators).": "先从账本下载账目到 FILE（运营者）。",
    "The ledger's keys that you trust, as a JWK set.": "您信任的账本公钥（JWK 集）。",
    "A head that you kept; it must still be there.": "您保存的链头；它必须仍在链上。",
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
    "In this country, such as DE; may be given again.": "在该国家或地区，如 DE；可重复给出。",
    "With so much idle upload, in Mbit/s.": "空闲上行至少为多少 Mbit/s。",
    "With so much idle upload until the deadline, in GB.": "截止前的空闲上行总量至少为多少 GB。",
    "With so much free disk, in GB.": "可用磁盘至少为多少 GB。",
    "With so much of the processor spare, in percent.": "处理器空闲至少为百分之多少。",
    "Reachable from the internet.": "可从互联网访问。",
    "While a GiB costs at most so many µp.": "仅当每 GiB 价格不超过多少 µp 时。",
    "What a probe measures.": "探测什么。",
    "What a probe measures at: host, address or name.": "探测目标：主机、网址或域名。",
    "Port of a tcp probe: 80, 443, 8080 or 8443.": "tcp 探测的端口：80、443、8080 或 8443。",
    "Measure by this family of addresses only.": "只使用该类地址测量。",
    "Measure so often on each device, a second apart.": "每台设备测量几次，间隔一秒。",
    "Address of a live stream's playlist, below a site of yours.": "直播播放列表的地址，须在您的站点之下。",
    "A further parameter of the kind.": "该类任务的其他参数。",
    "File or directory to write to; - for standard output.": "写入的文件或目录；- 表示标准输出。",
    "No progress bar.": "不显示进度条。",
    "How many there are; no limit where left out.": "数量；省略则不限。",
    "Voucher codes, one a line; they are the stock.": "兑换码，每行一个；数量即库存。",
    "Further voucher codes, one a line.": "追加的兑换码，每行一个。",
    "So many more.": "追加的数量。",
    "The https address of the provider that fulfils it; its secret is shown once.": (
        "负责兑现的供应方的 https 地址；密钥只显示一次。"
    ),
    "What owners are to know before they redeem it.": "主人兑换前应知道的条款。",
    "The account, for operators; yours where left out.": "账户（供运营者使用）；省略则为您自己的。",
    "How to write it.": "输出格式。",
    "File to write to.": "写入的文件。",
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

    def reason(self, word: str) -> str:
        """A reason for which a device does not fit, in words; with the word that the server gives for it."""
        return f"{ZH_REASONS[word]} ({word})" if self._catalogue and word in ZH_REASONS else word

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
        """``command`` and all below it with their help translated; itself where it is in this language already."""
        return self._localise(copy.deepcopy(command)) if self._catalogue else command

    def _localise(self, command: C) -> C:
        """In place."""
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
                self._localise(inner)
        return command
