"""Every setting of Hilum in one typed tree: `hilum.toml`, overridden by the environment.

A setting `[http] port` in the file is `HILUM_HTTP__PORT` in the environment. The process reads
the tree once at its start and hands each package its own frozen configuration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from hilum.event_sections import Audit, Subscriptions
from hilum.identity_sections import Externals, Federation
from hilum.routing_sections import ForwardRule, PriorsRule, Retrieve
from hilum.sections import (
    CHECKOUT,
    Authorization,
    Database,
    Dimse,
    Exports,
    Hapi,
    Http,
    Inference,
    Login,
    Pixels,
    Publish,
    Reports,
    Storage,
)

SETTINGS_FILE = "HILUM_SETTINGS"


class SettingsError(Exception):
    """A setting is missing, unknown or of the wrong type; the text says which and where."""


class Settings(BaseSettings):
    """The whole tree. Unknown names are refused."""

    model_config = SettingsConfigDict(
        env_prefix="HILUM_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Field(Path("var"), description="Data folder: archive, database, keys, logs.")
    ohif: Path = Field(
        CHECKOUT / "build" / "ohif", description="Folder of the prepared OHIF bundle."
    )
    profiles: Path = Field(
        CHECKOUT / "profiles", description="Folder of the FHIR conformance files."
    )
    internal_secret: SecretStr | None = Field(
        None,
        description="Secret that HAPI shows to our hooks. Default: generated once in the data "
        "folder; set it when the processes run on several machines.",
    )
    http: Http = Http()
    login: Login = Login()
    authorization: Authorization = Authorization()
    federation: Federation = Federation()
    external: Externals = Field(
        (), description="EHRs whose access tokens are accepted ([[external]])."
    )
    dimse: Dimse = Dimse()
    database: Database = Database()
    hapi: Hapi = Hapi()
    publish: Publish = Publish()
    inference: Inference = Inference()
    reports: Reports = Reports()
    audit: Audit = Audit()
    subscriptions: Subscriptions = Subscriptions()
    storage: Storage = Storage()
    exports: Exports = Exports()
    pixels: Pixels = Pixels()
    retrieve: Retrieve = Retrieve()
    forward: tuple[ForwardRule, ...] = Field(
        (), description="Rules of what is sent on to which peer ([[forward]])."
    )
    priors: tuple[PriorsRule, ...] = Field(
        (), description="Rules of which earlier studies are fetched from which peer ([[priors]])."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, environment, file."""
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, settings_path())
        return (init_settings, env_settings, toml)

    @property
    def base_url(self) -> str:
        """URL of the web process as clients see it, without a trailing slash."""
        part = self.http
        plain = f"http://{part.host}:{part.port}"
        own = f"https://{part.tls_host or part.host}:{part.tls_port}" if part.tls_port else plain
        return (part.public_url or own).rstrip("/")

    @property
    def local_url(self) -> str:
        """URL at which our own processes reach the web process."""
        if self.http.internal_url is not None:
            return self.http.internal_url.rstrip("/")
        host = "127.0.0.1" if self.http.host in ("0.0.0.0", "::") else self.http.host  # noqa: S104
        return f"http://{host}:{self.http.port}"

    @property
    def hapi_url(self) -> str:
        """Base URL of HAPI for our own processes."""
        return (self.hapi.url or f"http://127.0.0.1:{self.hapi.port}/fhir").rstrip("/")


def settings_path() -> Path:
    """The settings file: `HILUM_SETTINGS`, else `hilum.toml` in the working folder."""
    return Path(os.environ.get(SETTINGS_FILE, "hilum.toml"))


def load(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value is unknown or wrong; names the setting and its two spellings.
    """
    path = settings_path()
    if SETTINGS_FILE in os.environ and not path.is_file():
        raise SettingsError(f"{SETTINGS_FILE} names {path}, which is not a file")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error, path))) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} could not be read: {error}") from None


def _explain(error: ValidationError, path: Path) -> Iterator[str]:
    for problem in error.errors(include_input=False, include_url=False):
        names = [str(part) for part in problem["loc"]]
        yield (
            f"setting {'.'.join(names)} ({path} or HILUM_{'__'.join(names).upper()}): "
            f"{problem['msg']}"
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, as `hilum settings` lists it."""

    name: str
    variable: str
    value: str
    default: str
    description: str


def rows(settings: Settings) -> list[Row]:
    """Each setting with its environment variable, value, default and meaning."""
    return list(_rows(settings, ""))


def _rows(model: BaseModel, prefix: str) -> Iterator[Row]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name}.")
            continue
        full = f"{prefix}{name}"
        default = field.get_default(call_default_factory=True, validated_data={})
        variable = "HILUM_" + full.replace(".", "__").upper()
        yield Row(full, variable, _text(value), _text(default), field.description or "")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(getattr(item, "name", None) or str(item) for item in value)
    return str(value)


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, so that a child process reads the same tree."""
    return dict(_variables(settings, "HILUM_"))


def _variables(model: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _variables(value, f"{variable}__")
        elif isinstance(value, SecretStr):
            yield variable, value.get_secret_value()
        elif isinstance(value, dict | tuple):
            yield variable, json.dumps(value, default=_plain)
        elif value is not None:
            yield variable, str(value)


def _plain(item: object) -> object:
    """A table in a list as JSON has it."""
    if isinstance(item, BaseModel):
        secrets = {n: v.get_secret_value() for n, v in item if isinstance(v, SecretStr)}
        return {**item.model_dump(mode="json"), **secrets}
    raise TypeError(f"{type(item).__name__} in a setting")
