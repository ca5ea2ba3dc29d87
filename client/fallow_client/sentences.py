"""What goes wrong, in Chinese: the sentences of our own errors and those of servers and devices that people meet most.

The English sentence is the key; ``{}`` in it stands for any text, which the translation repeats in the same order.
"""

from __future__ import annotations

ZH_STATES: dict[str, str] = {
    "dormant": "休眠",
    "activating": "激活中",
    "active": "已激活",
    "paused": "已暂停",
    "leaving": "正在退出",
    "unbound": "已解绑",
    "connected": "已连接",
    "not connected": "未连接",
    "pending": "等待中",
    "placed": "已分配",
    "running": "进行中",
    "done": "完成",
    "failed": "失败",
    "expired": "已过期",
    "cancelled": "已取消",
    "reserved": "已预留",
    "fulfilled": "已兑现",
    "voided": "已作废",
    "unknown": "未知",
    "owner": "主人",
    "publisher": "发布者",
    "operator": "运营者",
    "held": "暂时保留",
    "vested": "可以兑换",
    "redeeming": "兑换中",
    "redeemed": "已兑换",
    "escrow": "托管",
    "object": "文件",
    "fill": "设备间复制",
    "live": "直播",
    "probe": "探测",
    "countersigned": "有回执",
    "legacy": "无回执",
    "open": "开放",
    "undecided": "待裁定",
    "cleared": "已排除嫌疑",
    "upheld": "属实",
    "unlikely-pair": "同一下载者过于频繁地遇到该线路",
    "unlikely-share": "该线路的交付份额过高",
    "failed-audit": "抽查不符",
    "mapped": "经路由器可达",
    "carrier": "运营商级 NAT",
    "blocked": "被阻挡",
    "yes": "是",
    "no": "否",
}

ZH_REASONS: dict[str, str] = {
    "held": "已经持有或正在执行",
    "failed-before": "不久前失败过",
    "place-unknown": "所在地未知",
    "elsewhere": "不在所要求的国家或地区",
    "unreachable": "无法从互联网访问",
    "other-family": "没有所要求的地址类型",
    "paused": "已暂停",
    "service-off": "主人未开放此服务",
    "stale": "没有心跳",
    "no-disk": "磁盘不足",
    "too-hot": "过热",
    "processor-busy": "处理器繁忙",
    "line-too-slow": "线路太慢",
    "too-few-bytes": "预计的空闲上行不足",
    "over-price": "现行价格高于上限",
    "home-taken": "同一家庭已有设备执行",
    "home-rested": "该家庭近期已执行够多",
}
"""Of ``waiting`` and ``why``: why a device does not fit a task."""

ZH_SENTENCES: dict[str, str] = {
    # ------------------------------------------------------------- ours
    "{} does not answer": "{} 没有应答",
    "check the address, the network, and that it runs": "请检查地址、网络，以及对方是否在运行",
    "Connection refused": "连接被拒绝",
    "Name or service not known": "找不到该主机名",
    "it took too long": "等待超时",
    "{} is not a server's address": "{} 不是服务器地址",
    "give it like http://203.0.113.10:32550": "请按此格式填写：http://203.0.113.10:32550",
    "{} is not a Fallow scheduler": "{} 不是 Fallow 调度服务器",
    "{} is not a Fallow ledger": "{} 不是 Fallow 账本",
    "the scheduler is usually at port 32550, the ledger at 32551, without a path": (
        "调度服务器通常在端口 32550，账本在 32551，地址不带路径"
    ),
    "no scheduler is known": "尚不知道调度服务器",
    "no ledger is known": "尚不知道账本",
    "fallow login --scheduler URL, or give --scheduler or FALLOW_SCHEDULER": (
        "请运行 fallow login --scheduler URL，或给出 --scheduler 或 FALLOW_SCHEDULER"
    ),
    "fallow login --ledger URL, or give --ledger or FALLOW_LEDGER": (
        "请运行 fallow login --ledger URL，或给出 --ledger 或 FALLOW_LEDGER"
    ),
    "the books differ in {} places from what can be computed": "账目有 {} 处与核算结果不符",
    "keep this file and ask the operator": "请保存此文件并询问运营者",
    "{} is not a whole export": "{} 不是完整的导出文件",
    "take it again": "请重新下载",
    "{} is not an export of a ledger": "{} 不是账本的导出文件",
    "take it from GET /v1/export": "请从 GET /v1/export 获取",
    "give --scheduler URL": "请给出 --scheduler URL",
    "add --scheduler URL": "请加上 --scheduler URL",
    "an object id alone does not say where it is": "仅有对象编号无法得知它的位置",
    "the token is empty": "令牌为空",
    "give the token that the operator gave you": "请填写运营者给您的令牌",
    "there is no profile {}": "没有配置 {}",
    "there is no token for {}": "没有 {} 的令牌",
    "fallow activate, or fallow pair for a further phone": "请运行 fallow activate；设备已激活时运行 fallow pair",
    "fallow leave, or fallow pair for a new phone": "请运行 fallow leave，或用 fallow pair 配对新手机",
    "{} is active already": "{} 已经激活",
    "{} is paused already": "{} 已经激活（已暂停）",
    "{} is leaving already": "{} 正在退出",
    "{} is activating already": "{} 正在激活",
    "no device answers on this network": "本网络上没有设备应答",
    "several devices answer": "有多台设备应答",
    "give its address by --device HOST:PORT": "请用 --device HOST:PORT 给出地址",
    "say which by --device": "请用 --device 指定一台",
    "the terms were not accepted; nothing was changed": "条款未被接受；没有任何改动",
    "nothing was changed": "没有任何改动",
    "the activation failed": "激活失败",
    "the device is still activating": "设备仍在激活",
    "look again later: fallow status": "请稍后运行 fallow status 查看",
    "try again": "请重试",
    "there is no reward {}": "没有奖励 {}",
    "fallow rewards lists them": "可运行 fallow rewards 查看",
    "it is not known whether the reward was redeemed": "尚不知道奖励是否已兑换",
    "ask again later; it redeems nothing twice: {}": "请稍后再问，不会重复兑换：{}",
    "there is no settlement of {} for you": "没有您的凭证 {} 的结算",
    "check the ticket's id": "请检查凭证编号",
    "give another file by -o": "请用 -o 指定另一个文件",
    "{} holds no codes": "{} 中没有兑换码",
    "there was no restore": "没有恢复记录",
    "there is no report yet": "还没有报告",
    "the first is made when the ledger starts; look at its log": "账本启动时会生成第一份；请查看其日志",
    "the newest report is old": "最新的报告已过时",
    "look at the ledger's log and clock": "请查看账本的日志和时钟",
    "write one code a line": "请每行写一个兑换码",
    "{} is not a file": "{} 不是文件",
    "give a file, or an http address below a registered site": "请给出文件，或已登记站点下的 http 地址",
    "{} is not a directory": "{} 不是目录",
    "make it first, or give another by -o": "请先创建它，或用 -o 指定另一个",
    "{} is not an object": "{} 不是对象地址",
    "give http://host/o/<id>/<name>, or an id and --scheduler": (
        "请给出 http://host/o/<id>/<name>，或编号加 --scheduler"
    ),
    "{} is being written by another fetch": "{} 正被另一个下载写入",
    "wait for it, or use -o": "请等待它结束，或使用 -o",
    "No space left on device": "磁盘空间不足",
    "free some space": "请腾出一些空间",
    "free some space and start again: it resumes": "请腾出空间后重新开始：会从断点继续",
    "start it again later: it resumes": "请稍后重新开始：会从断点继续",
    "neither the devices nor the origin could bring the rest of the object": "设备和源站都未能提供对象的剩余部分",
    "somebody used the line, so this is no measure of it": "测量期间有人用网，因此结果不能代表线路速率",
    "try again when nobody does, in ten minutes": "请在十分钟后、无人用网时重试",
    "the speed test does not end": "测速没有结束",
    "the speed test was lost": "测速已丢失",
    "start it again": "请重新开始",
    "the books do not reconcile": "账目不平",
    "stop redemptions and look at the differences": "请暂停兑换并检查差异",
    # ------------------------------------------------------------- the other side's
    "The token is not known here": "此处不认识该令牌",
    "A token is needed": "需要令牌",
    "Check that it is complete and was not revoked; the operator can issue a new one.": (
        "请检查令牌是否完整、是否已被吊销；运营者可以发放新的令牌。"
    ),
    "The token's role may not do this": "该令牌的角色无权执行此操作",
    "for {}; this is {}": "需要 {}；当前是 {}",
    "There is no such object here": "此处没有该对象",
    "Check the id; it may have been deleted.": "请检查编号；它可能已被删除。",
    "The claim token is not known here": "此处不认识该认领令牌",
    "The claim token has expired": "认领令牌已过期",
    "The claim token was used before": "认领令牌已被使用",
    "Make a new claim in the app or with `fallow claim`, and activate with it.": (
        "请在应用中或用 fallow claim 取得新的认领令牌，再激活。"
    ),
    "There are not enough redeemable points": "可兑换积分不足",
    "{} µp are redeemable; the reward costs {} µp": "可兑换 {} µp；该奖励需要 {} µp",
    "This reward is used up": "该奖励已兑完",
    "Choose another reward.": "请选择其他奖励。",
    "Redemptions rest until the operator has reviewed the books": "运营者核对账目之前，暂停兑换",
    "Try again later; no point is lost meanwhile.": "请稍后再试；积分不会丢失。",
    "Earn more, or wait until held points become redeemable.": "请继续积累，或等待暂时保留的积分变为可兑换。",
    "This phone is not known here": "此处不认识这部手机",
    "The setup code is wrong": "设置码错误",
    "{} tries are left": "还可以尝试 {} 次",
    "1 try is left": "还可以尝试 1 次",
    "No code is taken any more": "不再接受设置码",
    "Read it on the device's label, or run: fallow-agent setup-code": (
        "请查看设备标签，或在设备上运行：fallow-agent setup-code"
    ),
    "Too many wrong setup codes": "设置码错误次数过多",
    "Restart the device (or press its button), then try again.": "请重启设备（或按下按钮）后再试。",
    "The scheduler cannot be reached": "无法连接调度服务器",
    "Nothing is lost; the device goes on trying": "不会丢失任何数据；设备会继续尝试",
    "Your provider shares its address among homes (carrier-grade NAT)": (
        "您的运营商让多户家庭共用一个地址（运营商级 NAT）"
    ),
    "Ask your provider for a public IPv4 address. Until then the device only gets tasks that need no connection from "
    "outside": "请向运营商申请公网 IPv4 地址。在此之前，设备只会得到无需外部连接的任务",
    "Your router has no public address: your provider shares one among homes (carrier-grade NAT), or there is a second "
    "router before yours": "您的路由器没有公网地址：运营商让多户家庭共用一个地址（运营商级 NAT），或前面还有一台路由器",
    "If there is a second router, such as a box of your provider's, have it work as a mere modem (bridge mode); if "
    "there is none, ask your provider for a public IPv4 address. Until then the device only gets tasks that need no "
    "connection from outside": (
        "如果前面还有一台路由器（例如运营商的光猫），请将其设为桥接模式；如果没有，请向运营商申请公网 IPv4 地址。"
        "在此之前，设备只会得到无需外部连接的任务"
    ),
    "There is a second router before yours": "您的路由器前面还有一台路由器",
    "Forward TCP {} in that router to yours, or have it work as a mere modem (bridge mode). If you have only one "
    "router, ask your provider for a public IPv4 address": (
        "请在那台路由器上把 TCP {} 转发到您的路由器，或将其设为桥接模式。"
        "如果您只有一台路由器，请向运营商申请公网 IPv4 地址"
    ),
    "The port is closed at your router": "端口在您的路由器上未开放",
    "Your router offers neither UPnP nor PCP": "您的路由器既不提供 UPnP 也不提供 PCP",
    "Your router refuses to open the port": "您的路由器拒绝开放端口",
    "Turn UPnP or PCP on in your router, or": "请在路由器中打开 UPnP 或 PCP，或者",
    "Allow this device to open ports in your router's settings, or": "请在路由器设置中允许本设备开放端口，或者",
    "Forward TCP {} to this device, {}, in your router's settings": "请在路由器设置中把 TCP {} 转发到本设备 {}",
    "Your router has opened the port, and it is not reached all the same": "您的路由器已开放端口，但从外部仍无法到达",
    "Look for a firewall on this device, in your router or at your provider that stops connections from outside": (
        "请检查本设备、路由器或运营商处是否有防火墙阻挡外部连接"
    ),
    "The port is open in this device's firewall, and it is not reached all the same": (
        "端口已在本设备的防火墙中开放，但从外部仍无法到达"
    ),
    "Look for a firewall before this device or at your provider that stops connections from outside": (
        "请检查本设备之前或运营商处是否有防火墙阻挡外部连接"
    ),
    "The forwarded port is not reached": "转发的端口无法到达",
    "Forward TCP {} to port {} of this device, or take advertise_port and advertise_address out of its configuration": (
        "请把 TCP {} 转发到本设备的端口 {}，或从其配置中删去 advertise_port 和 advertise_address"
    ),
    "A firewall keeps connections from outside away": "防火墙阻挡了外部连接",
    "Open TCP {} in the firewall of this device": "请在本设备的防火墙中开放 TCP {}",
    "Open TCP {} for IPv6 in your router's firewall": "请在路由器的防火墙中为 IPv6 开放 TCP {}",
    "The device's owner has paused it": "主人已暂停设备",
    "The owner shares the line at other hours": "现在不在主人设定的共享时段内",
    "The line costs money by the byte ({})": "线路按流量计费（{}）",
    "This month's bytes are used up": "本月流量已用完",
    "The household is using the line": "家人正在使用线路",
    "The device is too hot or too busy": "设备过热或过忙",
    "waits until tomorrow: as much was written today as the disk should bear": (
        "等到明天：今天的写入量已达到磁盘应承受的上限"
    ),
    "A speed test is running": "测速正在进行",
    "Wait for its result: fallow status": "请等待结果：fallow status",
    "A speed test moves much data": "测速会传输大量数据",
    "Start it with --insist if you want it all the same.": "如仍要执行，请加上 --insist。",
    "This device has tested its line a short while ago": "本设备不久前刚测过速",
    "It may test again in {} s": "{} 秒后可以再次测速",
    "Other devices test their lines now": "其他设备正在测速",
    "This speed test has had its streams and bytes": "本次测速的连接数或流量已达上限",
    "Wait, then start the test again.": "请稍候再开始测速。",
    "This server offers no speed test": "该服务器不提供测速",
    "Tell the device what the line carries in its configuration.": "请在设备配置中填写线路速率。",
    "Tell the device what the line carries in its configuration: line.up_mbps and line.down_mbps.": (
        "请在设备配置中填写线路速率：line.up_mbps 和 line.down_mbps。"
    ),
    "The speed test failed": "测速失败",
    "The scheduler cannot be tested against: {}": "无法与调度服务器测速：{}",
    "The line is faster than this test can tell": "线路比本测试所能测量的更快",
    "The device is slower than its line": "设备的处理速度低于线路速率",
    "Something on the way to the scheduler takes uploads in its stead": "通往调度服务器的途中有设备代为接收上传",
    "Check the internet connection, then start the test again.": "请检查网络连接，然后重新测速。",
    "Start the test again later.": "请稍后重新测速。",
    "It was stopped": "测速被中止",
    "probe tasks are not offered here": "此处不提供探测任务",
    "live tasks are not offered here": "此处不提供直播任务",
    "A live task names its playlist and nothing else": "直播任务只须指明播放列表",
    "As many live streams run here as the server can follow": "此服务器跟踪的直播已达上限",
    "Try again when one has ended, or ask the operator to raise streaming.live_streams_max.": (
        "请在其他直播结束后再试，或请运营者调高 streaming.live_streams_max。"
    ),
    "The address is not that of a playlist below a site of yours": "该地址不是您站点之下的播放列表",
    "The playlist cannot be carried": "无法承载该播放列表",
    "Players can still play it from its origin.": "播放器仍可从源站播放。",
    "The video is complete": "该视频已完整，不是直播",
    "A fill task names its object": "复制任务须指明对象",
    "A probe is about no object": "探测任务不涉及对象",
    "This target does not want to be probed": "该目标不愿被探测",
    "The target's address is not public": "目标地址不是公网地址",
    "Targets must be on the public internet.": "目标必须在公共互联网上。",
    "You may have {} measurements an hour": "每小时最多 {} 次测量",
    "This target is measured enough for now, by you or by others": "该目标目前已被测量得够多",
    "Ask for fewer devices or measurements, or wait.": "请减少设备数或测量次数，或稍候再试。",
    "The device is not active": "设备未激活",
    "The device has no owner": "设备还没有主人",
    "Activate the device first.": "请先激活设备。",
    "one consumer received {} of its {} deliveries from the devices of this line, where the other consumers of the "
    "same objects received {} of theirs": (
        "某下载者的交付中有 {} 次（共 {} 次）来自本线路的设备，而下载相同内容的其他人只有 {} 来自本线路"
    ),
    "the devices of this line made {} of {} deliveries of what they hold, where the choice among the holders gives the "
    "strongest of them {} at most": "本线路的设备完成了其所持内容的 {} 次交付（共 {} 次），而按选择机制最强者最多占 {}",
    "a canary did not get from {} what it should": "抽查者未能从 {} 得到应有的内容",
    "it claimed {} bytes, and {} came": "设备声称提供了 {} 字节，实际收到 {} 字节",
    "no reason given": "未说明原因",
    "it did not answer": "设备没有应答",
    "answered {}": "应答为 {}",
    "more bytes than were asked for": "收到的字节多于请求",
    "fewer bytes than were asked for": "收到的字节少于请求",
    "when the ticket was issued, consumers had reached the device since too short a time": (
        "签发凭证时，设备可达的时间还太短，无法推算"
    ),
    "when the ticket was issued, consumers had reached the device for hardly any of its time online": (
        "签发凭证时，设备在线期间几乎一直不可达，无法推算"
    ),
    "A tariff can only be made for the future": "费率只能对将来生效",
    "Choose a later valid_from.": "请选择更晚的 valid_from。",
    "Other hours of scarcity are published a week ahead": "稀缺系数的变动须提前一周公布",
    "Choose a later valid_from, or leave scarcity as it is in the newest tariff.": (
        "请选择更晚的 valid_from，或沿用最新费率中的 scarcity。"
    ),
    "Another proposal is being compared": "正在比较另一份费率",
    "Wait until it is done.": "请等待其完成。",
    "{} holds no JSON object": "{} 不是 JSON 对象",
    "The settlement was reversed before": "该结算已被追回",
    "Nothing of this settlement is held any more": "该结算已没有暂时保留的积分",
    "There is no settlement of this ticket": "没有该凭证的结算",
    "There is no such review": "没有该审查",
    "The device was cleared": "该设备已被排除嫌疑",
    "What is cleared stays so.": "已排除的不再追究。",
}
