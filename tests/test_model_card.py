"""The model card of an exported network, and pushing it to a hub: a client that copies into a local directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from conftest import result_of

from trainer.files import write_text

SMALL = (
    "data=fake", "data.count=120", "data.size=12", "data.num_classes=3", "architecture.widths=[4]", "epochs=1", "batch_size=32",
    "device=cpu", "observer=[checkpoint,history_file,report]",
)  # fmt: skip
EXPORT = ("job=export", "checkpoint=run", "job.format=torch")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer.cli import main

    directory = tmp_path_factory.mktemp("trained") / "run"
    assert main([*SMALL, f"output={directory}"]) == 0
    return directory


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory in the place of the hub."""

    class Client:
        def __init__(self, library_name: str) -> None:
            assert library_name == "trainer"

        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
            assert exist_ok
            write_text(tmp_path / "hub" / repo_id / ".private", str(private))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(
            self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
        ) -> None:
            for pattern in allow_patterns:
                for file in folder_path.glob(pattern):
                    shutil.copy(file, tmp_path / "hub" / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_an_export_has_a_card_and_is_pushed_without_what_names_paths_of_this_machine(train, run, hub):
    checkpoint = (*EXPORT[:1], f"checkpoint={run}", EXPORT[2])
    code, out, err = train(*checkpoint, "job.push=me/net", "output=exported")
    assert code == 0, err
    assert "pushed to https://huggingface.co/me/net" in out
    assert {path.name for path in (hub / "me/net").iterdir()} == {"README.md", "model.pt2", ".private"}
    assert (hub / "me/net/.private").read_text() == "True"
    assert result_of(Path("exported"))["pushed"] == "https://huggingface.co/me/net"
    card = (hub / "me/net/README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header == {"tags": ["trainer"], "pipeline_tag": "image-classification"}
    accuracy = result_of(run)["test"]["accuracy"]
    assert f"| accuracy | {100 * accuracy:.2f} % |" in card
    assert "uint8 (N, 3, 12, 12)" in card
    assert "of the classes 0, 1, 2." in card
    assert str(run.parent) not in card
    code_block = card.split("```python\n")[1].split("```")[0].replace("model.pt2", str(hub / "me/net/model.pt2"))
    scope: dict = {}
    exec(code_block, scope)
    assert scope["predictions"].shape == (1, 3)


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_cannot_be_reached_leaves_a_complete_export_and_the_command_to_push_it(train, run, hub, monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to huggingface.co")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    code, _, err = train("job=export", f"checkpoint={run}", "job.format=torch", "job.push=me/net", "output=exported")
    assert code == 1
    assert "was not pushed: ConnectionError: no route to huggingface.co" in err
    assert "hf upload me/net exported" in err
    assert Path("exported/model.pt2").is_file()
    assert "pushed" not in result_of(Path("exported"))


@pytest.mark.parametrize(
    ("push", "environment", "answer"),
    [
        ("net", {}, "must be <owner>/<name>"),
        ("../net", {}, "must be <owner>/<name>"),
        ("me/net", {"HF_HUB_OFFLINE": "1"}, "switched off by the environment variable HF_HUB_OFFLINE"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_export(push, environment, answer, train, run, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, err = train("job=export", f"checkpoint={run}", f"job.push={push}", "output=exported")
    assert (code, answer in err) == (2, True), err
    assert not Path("exported").exists()


def test_without_the_library_its_extra_is_named(train, run, monkeypatch):
    from trainer.jobs import push

    monkeypatch.setattr(push, "find_spec", lambda name: None)
    code, _, err = train("job=export", f"checkpoint={run}", "job.push=me/net", "output=exported")
    assert (code, "pip install 'trainer[hf]'" in err) == (2, True)


def test_names_from_data_are_text_in_a_card(tmp_path):
    from trainer.jobs.model_card import model_card

    export = {
        "classes": ["<script>", "[a](http://x)"],
        "shape": [1, 8, 8],
        "colours": "grey",
        "onnx": {"file": "model.onnx"},
    }
    (tmp_path / "config.yaml").write_text("damaged: [")  # the checkpoint holds the config, too
    tree = {"architecture": {"_target_": "trainer.architectures.CNN"}}
    card = model_card("# name", tmp_path, tree, export, "classification", ("best", "model"))
    assert "<script>" not in card
    assert "[a](http" not in card
    assert "Not evaluated." in card
    assert "CNN for classification of images with trainer." in card
    assert "onnxruntime.InferenceSession" in card
