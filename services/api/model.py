"""The base of the models of requests and answers."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """pydantic prepares it when it is first used: most are only for the OpenAPI document."""

    model_config = ConfigDict(defer_build=True)
