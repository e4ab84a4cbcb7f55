"""init=random: real images of each class, drawn without replacement (RFAD section 6)."""

from dataclasses import dataclass

from distill_cli.init.base import Initial, Request, real_images


@dataclass(frozen=True)
class Config:
    """No parameters."""

    name: str = "random"


def initial(config: Config, request: Request) -> Initial:
    """ipc training images of each class, uniformly without replacement."""
    generator = request.generator("init")
    picks = [
        generator.choice(request.rows(label), request.ipc, replace=False)
        for label in range(request.classes)
    ]
    return real_images(request, picks)
