"""The command line: which commands there are. What each does is in `gateway.commands`, imported when it is run.

Every command that prints data has `--json`; every command that needs the journal finds it by `--config`, or else in the
same default state directory that `make run` uses, whether the daemon runs or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

SECTIONS = {
    "The gateway": ("run", "check-config", "doctor", "demo"),
    "What it knows": ("events", "report", "alerts", "journal", "quarantine"),
    "Devices and cameras": ("drivers", "replay", "count", "model"),
    "Who may, and persons": ("setup-code", "account", "audit", "tls", "privacy", "coupon"),
    "The platform": ("enrol", "platform", "conformance"),
    "Beginning and end": ("bench", "wipe"),
}
"""The commands as the help lists them: section by section, in this order."""


class _Sections(TyperGroup):
    """`storefront --help` by sections; a command in none of them comes first, under the library's own heading."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names in the order of `SECTIONS`."""
        order = [name for names in SECTIONS.values() for name in names]
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else -1)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, told which section it stands in."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            section = next((title for title, names in SECTIONS.items() if cmd_name in names), None)
            vars(command)["rich_help_panel"] = section
        return command


app = typer.Typer(
    name="storefront", cls=_Sections, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="In-store edge gateway: reads shop devices, keeps every event, syncs them to the platform.",
)  # fmt: skip
journal_app = typer.Typer(no_args_is_help=True, help="Check, salvage, measure or back up the journal.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Messages that could not become events.")
privacy_app = typer.Typer(no_args_is_help=True, help="What is done with data about persons, and under which keys.")
app.add_typer(privacy_app, name="privacy")
app.add_typer(journal_app, name="journal")
app.add_typer(quarantine_app, name="quarantine")
coupon_app = typer.Typer(no_args_is_help=True, help="Coupons for tests and pilots: issue, show, issuers' keys.")
app.add_typer(coupon_app, name="coupon")
account_app = typer.Typer(no_args_is_help=True, help="Who may sign in at the page.")
audit_app = typer.Typer(no_args_is_help=True, help="What was done by those who may.")
app.add_typer(account_app, name="account")
app.add_typer(audit_app, name="audit")
tls_app = typer.Typer(no_args_is_help=True, help="The store's own certificate authority, for the page on the network.")
app.add_typer(tls_app, name="tls")
alerts_app = typer.Typer(no_args_is_help=True, help="Who is told of what needs a hand.")
app.add_typer(alerts_app, name="alerts")

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (TOML). Without: built-in defaults.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
StreamName = Literal["transactions", "measurements", "observations"]


@app.command()
def run(config: Config = None) -> int:
    """Run the gateway until it is told to stop (SIGTERM, Ctrl-C); SIGHUP reads the configuration again."""
    from gateway.commands import running

    return running.run(config)


@app.command("check-config")
def check_config(
    config: Annotated[Path | None, typer.Argument(help="File to check.")] = None, json: Json = False
) -> int:
    """Check a configuration file whole: syntax, keys, values, and every device's options."""
    from gateway.commands import running

    return running.check_config(config, as_json=json)


@app.command()
def drivers(
    name: Annotated[str | None, typer.Argument(help="Show this driver's manual.")] = None, json: Json = False
) -> int:
    """List the device drivers, or print the manual of one."""
    from gateway.commands import devices

    return devices.drivers(name, as_json=json)


@app.command()
def replay(
    driver: Annotated[str, typer.Argument(help="Driver name, see `storefront drivers`.")],
    file: Annotated[Path, typer.Argument(help="Trace: .hex, .bin or .jsonl.")],
    options: Annotated[Path | None, typer.Option(help="TOML file with the driver's options.")] = None,
    set_option: Annotated[list[str] | None, typer.Option("--set", help="One option, as in --set key=value.")] = None,
    json: Json = False,
) -> int:
    """Feed a recorded trace to a driver and print what it understood, and how much it had to skip."""
    from gateway.commands import devices

    return devices.replay(driver, file, options, set_option or [], as_json=json)


@app.command()
def events(
    config: Config = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as events come.")] = False,
    stream: Annotated[StreamName | None, typer.Option(help="Only this stream.")] = None,
    type: Annotated[str | None, typer.Option(help="Only types that contain this.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", help="How many of the newest to begin with.")] = 20,
    json: Json = False,
) -> int:
    """Print events from the journal, oldest first."""
    from gateway.commands import events as command

    return command.events(config, follow=follow, stream=stream, type_part=type, last=last, as_json=json)


model_app = typer.Typer(no_args_is_help=True, help="Person-detection models.")
app.add_typer(model_app, name="model")
_AS_IT_IS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_AS_IT_IS)
def count(context: typer.Context) -> int:
    """Count the people in a video: storefront count VIDEO --line x1,y1,x2,y2 (see storefront count --help)."""
    from vision.count import main

    return main(context.args)


@privacy_app.command("report")
def privacy_report(config: Config = None, json: Json = False) -> int:
    """Print what this configuration does with data about persons: what is kept, for how long, who gets it."""
    from gateway.commands import privacy

    return privacy.report(config, as_json=json)


@privacy_app.command("keys")
def privacy_keys(config: Config = None, json: Json = False) -> int:
    """Print the public keys that identifiers are sealed to, this gateway's own, and which day keys there are."""
    from gateway.commands import privacy

    return privacy.keys(config, as_json=json)


@journal_app.command("verify")
def journal_verify(config: Config = None, json: Json = False) -> int:
    """Read every row of the journal and say what is wrong; exit code 1 when something is. The gateway may run."""
    from gateway.commands import journal

    return journal.verify(config, as_json=json)


@journal_app.command("salvage")
def journal_salvage(
    config: Config = None,
    force: Annotated[bool, typer.Option("--force", help="Salvage a journal that is in order, too.")] = False,
    json: Json = False,
) -> int:
    """Set a damaged journal aside and recover what is whole. The gateway must be stopped."""
    from gateway.commands import journal

    return journal.salvage(config, force=force, as_json=json)


@journal_app.command("stats")
def journal_stats(config: Config = None, json: Json = False) -> int:
    """Sizes, what became of every event, and where each reader stands."""
    from gateway.commands import journal

    return journal.stats(config, as_json=json)


@journal_app.command("backup")
def journal_backup(
    target: Annotated[Path, typer.Argument(help="New file to copy the journal into.")],
    config: Config = None,
    json: Json = False,
) -> int:
    """Copy the journal into a new file and verify the copy. The gateway may run."""
    from gateway.commands import journal

    return journal.backup(config, target, as_json=json)


@app.command()
def demo(
    speed: Annotated[float, typer.Option(help="How much faster than in life.", min=0.1, max=5000)] = 10.0,
    visitors: Annotated[float, typer.Option(help="People on a mean day by the clock.", min=1, max=10_000_000)] = 6000.0,
    seed: Annotated[int, typer.Option(help="Another seed, another day.")] = 1,
    port: Annotated[int, typer.Option(help="Of the page; 0: no page.", min=0, max=65535)] = 8080,
    data: Annotated[Path | None, typer.Option(help="Data directory. Without: the gateway's own.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="unplug, flood, corrupt, broker, clock, till-poison, disk-full, uplink, camera, kill; repeat for more"
        ),
    ] = None,
    for_s: Annotated[
        float | None, typer.Option("--for", help="Close the shop so many seconds after it has opened.", min=1)
    ] = None,
    platform: Annotated[bool, typer.Option(help="Run the reference platform, too, and deliver to it.")] = True,
    history: Annotated[int, typer.Option(help="Days before today, made up for a new journal.", min=0, max=60)] = 28,
) -> int:
    """Run a virtual store and a gateway that serves it, and balance the books at the end (Ctrl-C)."""
    from gateway.commands import demo as command

    return command.demo(
        data, port, speed, seed, fault or [], for_s, platform=platform, history_days=history, visitors=visitors
    )


@app.command("demo-gateway", hidden=True)
def demo_gateway(config: Annotated[Path, typer.Argument()]) -> int:
    """The gateway inside `storefront demo`; it ends when its standard input closes."""
    from gateway.commands import demo as command

    return command.inside(config)


@quarantine_app.command("list")
def quarantine_list(
    config: Config = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 50,
    held: Annotated[bool, typer.Option("--held", help="Only those not replayed yet.")] = False,
    json: Json = False,
) -> int:
    """List messages in quarantine with the reason of each, without what they hold."""
    from gateway.commands import quarantine

    return quarantine.listing(config, limit=limit, held=held, as_json=json)


@quarantine_app.command("show")
def quarantine_show(
    entry: Annotated[int, typer.Argument(metavar="ID", help="Number from `quarantine list`.")],
    config: Config = None,
    json: Json = False,
) -> int:
    """Print one message as it came. It may hold anything, also about persons."""
    from gateway.commands import quarantine

    return quarantine.show(config, entry, as_json=json)


@quarantine_app.command("replay")
def quarantine_replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers from `quarantine list`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every device message not replayed yet.")] = False,
    config: Config = None,
    json: Json = False,
) -> int:
    """Give messages to their device's driver again and keep what they become, exactly once.

    The running gateway does it by its own configuration; when none runs, this command does it by --config.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("say which: one ID or more, or --all")
    from gateway.commands import quarantine

    return quarantine.replay(config, ids or [], everything=everything, as_json=json)


@model_app.command("check", context_settings=_AS_IT_IS)
def model_check(context: typer.Context) -> int:
    """Run a model once and say what it is: storefront model check FILE."""
    from vision.model_check import main

    return main(context.args)


@app.command("setup-code")
def setup_code(config: Config = None, json: Json = False) -> int:
    """Print a one-time code with which the first manager is made at /setup of the page."""
    from gateway.commands import access

    return access.setup_code(config, as_json=json)


@account_app.command("list")
def account_list(config: Config = None, json: Json = False) -> int:
    """List the accounts, their roles and locks."""
    from gateway.commands import access

    return access.listing(config, as_json=json)


@account_app.command("add")
def account_add(
    name: Annotated[str, typer.Argument(help="As the shop calls the person.")],
    role: Annotated[Literal["staff", "manager"], typer.Option(help="What the person may do.")] = "staff",
    config: Config = None,
) -> int:
    """Add an account; asks for its PIN, or reads it from standard input."""
    from gateway.commands import access

    return access.add(config, name, role)


@account_app.command("reset")
def account_reset(name: Annotated[str, typer.Argument(help="See `account list`.")], config: Config = None) -> int:
    """Give an account a new PIN, print it, and lift its lock."""
    from gateway.commands import access

    return access.reset(config, name)


@account_app.command("remove")
def account_remove(name: Annotated[str, typer.Argument(help="See `account list`.")], config: Config = None) -> int:
    """Take an account away; without a manager the page is to be set up again."""
    from gateway.commands import access

    return access.remove(config, name)


@audit_app.command("list")
def audit_list(
    config: Config = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 50,
    json: Json = False,
) -> int:
    """List the newest acts."""
    from gateway.commands import access

    return access.audit_list(config, limit, as_json=json)


@audit_app.command("verify")
def audit_verify(config: Config = None, json: Json = False) -> int:
    """Check that no record was changed or taken out; exit code 1 when one was."""
    from gateway.commands import access

    return access.audit_verify(config, as_json=json)


@tls_app.command("show")
def tls_show(config: Config = None, json: Json = False) -> int:
    """Show the authority's fingerprint and what it has issued."""
    from gateway.commands import access

    return access.tls_show(config, as_json=json)


@tls_app.command("export-ca")
def tls_export(
    target: Annotated[Path, typer.Argument(help="File to write, as in storefront-ca.pem.")], config: Config = None
) -> int:
    """Write the authority's certificate to a file, to be installed where the staff look at the page."""
    from gateway.commands import access

    return access.tls_export(config, target)


@app.command()
def report(
    config: Config = None,
    day: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Day of the store; today if not given.")] = "",
    week: Annotated[bool, typer.Option("--week", help="The week from Monday to Sunday that the day lies in.")] = False,
    format: Annotated[Literal["text", "json", "html", "pdf", "csv", "xlsx"], typer.Option(help="Format.")] = "text",
    lang: Annotated[Literal["zh_CN", "en"] | None, typer.Option(help="Language; the store's if not given.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> int:
    """Print the key figures of a day or a week: visitors, conversion, sales, queues, each with what it rests on."""
    from gateway.commands import report as command

    return command.report(config, day, week=week, format=format, language=lang, output=output)


@app.command()
def doctor(config: Config = None, json: Json = False) -> int:
    """Say what is wrong, the likeliest cause first, and what to do; exit code 1 when something is not in order."""
    from gateway.commands import doctor as command

    return command.doctor(config, as_json=json)


platform_app = typer.Typer(help="Serve the reference platform: for demos and integrators, not for production.")
app.add_typer(platform_app, name="platform")
Database = Annotated[
    Path | None, typer.Option(help="SQLite file of the platform; beside the gateway's data if not given.")
]
Region = Annotated[str, typer.Option(help="ISO 3166: where a phone number without a country code is from.")]


@platform_app.callback(invoke_without_command=True)
def platform(
    context: typer.Context,
    database: Database = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8090,
    gateway: Annotated[list[str] | None, typer.Option(help="NAME=REFERENCE of a gateway's token.")] = None,
    reader: Annotated[list[str] | None, typer.Option(help="NAME=REFERENCE of a feed reader's token.")] = None,
    enrol: Annotated[list[str] | None, typer.Option(help="Print a claim code for this gateway, valid a day.")] = None,
    admin: Annotated[str, typer.Option(help="REFERENCE of the token for profiles and commands.")] = "",
    region: Region = "CN",
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file: serve HTTPS with it, gateways may show theirs.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file: the certificate's key.")] = None,
    time_zone: Annotated[str, typer.Option(help="Of the times on its pages.")] = "Asia/Shanghai",
) -> int:
    """Serve the reference platform: for demos and integrators, not for production."""
    if context.invoked_subcommand is not None:
        return 0
    from gateway.commands import platform as command

    return command.platform(
        database, host, port, gateway or [], reader or [], enrol or [], admin, region, certificate, key, time_zone
    )


@platform_app.command("import")
def platform_import(
    files: Annotated[list[Path], typer.Argument(help="CSV: members, registrations, consents, coupons or orders.")],
    database: Database = None,
    region: Region = "CN",
    json: Json = False,
) -> int:
    """Import online history; the kind of a file is told by its header. Exit code 1 when a row was refused."""
    from gateway.commands import platform_profiles as command

    return command.import_files(database, files, region, as_json=json)


@platform_app.command("rebuild")
def platform_rebuild(database: Database = None, json: Json = False) -> int:
    """Match everything again from the first event; imports, parted links and erasures stay."""
    from gateway.commands import platform_profiles as command

    return command.rebuild(database, as_json=json)


@platform_app.command("segments")
def platform_segments(
    database: Database = None,
    model: Annotated[Literal["logistic", "boosting"], typer.Option(help="What learns who stays away.")] = "logistic",
    horizon_days: Annotated[int, typer.Option(help="Who buys nothing for so long has gone.", min=7, max=180)] = 30,
    json: Json = False,
) -> int:
    """Print RFM segments with their thresholds, clusters, and churn with AUC and calibration on later days."""
    from gateway.commands import platform_profiles as command

    return command.segments(database, model, horizon_days, as_json=json)


@app.command()
def wipe(
    config: Config = None,
    yes: Annotated[str | None, typer.Option(help="The store's name, as in gateway.store: then it is done.")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Also write the receipt here.")] = None,
    json: Json = False,
) -> int:
    """Destroy the gateway's keys and data for good and print a receipt; without --yes only say what there is."""
    from gateway.commands import wiping

    return wiping.wipe(config, yes, receipt, as_json=json)


@app.command()
def enrol(
    url: Annotated[str, typer.Argument(help="Address of the platform, https://…")],
    code: Annotated[str, typer.Argument(help="Claim code from the platform; - reads it from standard input.")],
    config: Config = None,
    ca: Annotated[Path | None, typer.Option(help="Certificate authority of that address, PEM.")] = None,
    key: Annotated[Literal["ed25519", "p256"], typer.Option(help="Kind of key, if none is there yet.")] = "ed25519",
    json: Json = False,
) -> int:
    """Make this gateway's key, get its certificate from the platform, and print the `platform` table to use."""
    from gateway.commands import enrol as command

    return command.run(config, url, code, ca, key, as_json=json)


@app.command()
def conformance(
    url: Annotated[str, typer.Argument(help="Address of the platform, https://…")],
    gateway: Annotated[str, typer.Option(help="A gateway name that it lets push.")] = "conformance",
    token: Annotated[str, typer.Option(help="Reference of its bearer token: file:… or env:…")] = "",
    ca: Annotated[Path | None, typer.Option(help="Certificate authority, PEM.")] = None,
    json: Json = False,
) -> int:
    """Ask a central platform every question of the sync contract and say what it answers wrongly."""
    from gateway.commands import platform as command

    return command.conformance(url, gateway, token, ca, as_json=json)


@app.command(context_settings=_AS_IT_IS)
def bench(context: typer.Context) -> int:
    """Measure this checkout beside limits and peers: storefront bench [NAME ...] [--quick | --full] [--json]."""
    from gateway.commands import bench as command

    return command.bench(context.args)


@alerts_app.command("test")
def alerts_test(
    name: Annotated[str, typer.Argument(help="This webhook only.")] = "", config: Config = None, json: Json = False
) -> int:
    """Send a test message to the webhooks of the configuration, and say what became of it."""
    from gateway.commands import alerts

    return alerts.test(config, name, as_json=json)


@coupon_app.command("keys")
def coupon_keys(
    file: Annotated[Path, typer.Argument(help="The issuer's private key, PEM; made when it is not there.")],
    key_id: Annotated[str, typer.Option("--id", help="What coupons call the key: a–z, 0–9, -.")] = "pilot",
    json: Json = False,
) -> int:
    """Make an issuer's key, or read one, and print the `coupons.keys` table for the shops."""
    from gateway.commands import coupon

    return coupon.keys(file, key_id, as_json=json)


@coupon_app.command("issue")
def coupon_issue(
    key: Annotated[Path, typer.Option(help="The issuer's private key, PEM.")],
    campaign: Annotated[str, typer.Option(help="What it belongs to.")],
    value: Annotated[str, typer.Option(help="Money it is worth: 10 or 2.50.")],
    config: Config = None,
    key_id: Annotated[str, typer.Option("--key-id", help="What the shops call the key.")] = "pilot",
    currency: Annotated[str, typer.Option(help="ISO 4217; the shop's if not given.")] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100_000, help="How many.")] = 1,
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="How long they are valid, from now.")] = 30.0,
    uses: Annotated[int, typer.Option(min=1, max=999, help="How often each may be used.")] = 1,
    store: Annotated[list[str] | None, typer.Option(help="Only in this shop; may be repeated.")] = None,
    home: Annotated[str, typer.Option(help="The shop that may honour it without a network.")] = "",
    lease: Annotated[str, typer.Option(help="The shop that it is lent to.")] = "",
    channel: Annotated[str, typer.Option(help="How it is given out: app, sms, print.")] = "print",
    id: Annotated[str, typer.Option("--id", help="Its own id; of several, how they begin.")] = "",
    qr: Annotated[Path | None, typer.Option(help="Folder for a QR code (SVG) of each.")] = None,
    json: Json = False,
) -> int:
    """Print signed coupons, one a line."""
    from gateway.commands import coupon

    wish = coupon.Wish(
        key=key, key_id=key_id, campaign=campaign, face=value, currency=currency, count=count, days=days, uses=uses,
        stores=tuple(store or ()), home=home, lease=lease, channel=channel, id=id,
    )  # fmt: skip
    return coupon.issue(config, wish, qr, as_json=json)


@coupon_app.command("show")
def coupon_show(
    token: Annotated[str, typer.Argument(help="The text of the coupon's QR code.")],
    config: Config = None,
    json: Json = False,
) -> int:
    """Print what a coupon says and what the shop of --config would answer; exit code 1 when it would not honour it."""
    from gateway.commands import coupon

    return coupon.show(config, token, as_json=json)
