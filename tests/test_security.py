"""Configs, checkpoints and run directories from somebody else: nothing in them runs, and the answer says what to type."""

from __future__ import annotations

import copy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer import trust
from trainer.config.load import load_config
from trainer.construct import locate
from trainer.engine import checkpoint
from trainer.trust import NotTrusted

COMMAND = "touch PWNED"
# Paths in the standard library, in published packages, in ours, in other installed packages, and what is no path.
TARGETS = [
    "os.system", "posix.system", "os.popen", "os.remove", "os.execl", "subprocess.Popen", "subprocess.getoutput",
    "subprocess.run", "shutil.rmtree", "shutil.copy", "runpy.run_path", "builtins.eval", "builtins.exec", "builtins.open",
    "builtins.__import__", "importlib.import_module", "pickle.loads", "code.interact", "pty.spawn", "webbrowser.open",
    "urllib.request.urlopen", "ctypes.CDLL", "functools.partial", "operator.call", "antigravity.fly", "this.s",
    "logging.config.dictConfig", "multiprocessing.Process", "site.addsitedir", "unittest.mock.patch",
    "evil_module.Net", "evil_module.function", "evil_package.nets.Net", "evil_package.Net", "types.FunctionType",
    "torch.load", "torch.save", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.serialization.load",
    "torch.utils.cpp_extension.load_inline", "torch.jit.load", "torch.package.PackageImporter", "torch.os.system",
    "torch.classes.load_library", "torch.ops.load_library", "torch.distributed.run.main", "torch.compile",
    "torch.utils.data.DataLoader", "torch.nn.modules.module.torch.load", "torch.nn.modules.utils.collections.abc.Callable",
    "torch._C._load_for_mobile", "torch._dynamo.config.patch", "torch.optim.lr_scheduler.LambdaLR",
    "torch.nn.utils.clip_grad_norm_", "torch.multiprocessing.spawn",
    "torch.testing._internal.common_utils.shell", "torch.nn.functional.cross_entropy",
    "torchvision.io.write_file", "torchvision.datasets.utils.download_url", "torchvision.datasets.ImageFolder",
    "torchvision.models.list_models", "torchvision.models._api.WeightsEnum", "torchvision.os.remove",
    "timm.models.load_checkpoint", "timm.models.list_models", "timm.utils.CheckpointSaver", "timm.data.create_dataset",
    "albumentations.load", "albumentations.from_dict", "albumentations.check_version.fetch_version_info",
    "trainer.files.write_text", "trainer.config.options.option_files", "trainer.cli.main", "trainer.cli.os.system",
    "trainer.trust.allow", "trainer.construct.locate", "trainer.run_dir.subprocess.run", "trainer.weight_files.pickle.loads",
    "trainer.__main__.main", "trainer.instantiate.External", "trainer.engine.checkpoint.save", "trainer.allow",
    "hydra.utils.instantiate", "hydra.utils.call", "hydra._internal.utils._locate", "omegaconf.OmegaConf.load",
    "yaml.unsafe_load", "numpy.load", "numpy.memmap",
    "cv2.imwrite", "PIL.Image.open", "pydantic.create_model", "matplotlib.pyplot.savefig",
    "tensorboard.program.TensorBoard", "pip.main", "pytest.main", "_pytest.config.main", "joblib.load",
    " os.system", "os.system ", "os.system\n", "os..system", ".os.system", "os.system.", "os/system", "os:system", "system", "",
    "ｏｓ.system", "os.sys\u200btem", "__import__('os').system", "os.system" * 200, "${oc.env:HOME}.Net", "evil_module.__dict__",
    "../evil_module.Net", "%s.%s", 3, True, None, ["os.system"], {"_target_": "os.system"},
]  # fmt: skip
PLACES = [
    "job", "task", "architecture", "activation", "initialization", "optimizer", "averaging", "data", "engine", "recipe",
    "schedule.cosine", "schedule.evil", "regularizer.evil", "augmentation.evil", "observer.console", "observer.evil",
]  # fmt: skip
ARGUMENTS = {"command": COMMAND, "args": ["touch", "PWNED"], "path_name": "evil_module.py"}

# The keys of the default architecture, which a class of the user does not take.
REMOVED = [f"~architecture.{key}" for key in load_config([]).tree["architecture"] if key != "_target_"]


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return load_config(["data=fake", "data.size=8", "device=cpu", "observer=[console]"]).tree


@pytest.fixture(autouse=True)
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that could be imported, and leave a mark if they are."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    text = f"import pathlib\npathlib.Path({str(tmp_path / 'PWNED')!r}).touch()\nfrom torch import nn\n"
    text += "class Net(nn.Module): pass\ndef function(**_): pass\n"
    package = tmp_path / "modules" / "evil_package"
    package.mkdir(parents=True)
    for file in (package / "__init__.py", package / "nets.py", tmp_path / "modules" / "evil_module.py"):
        file.write_text(text)
    yield
    for name in ("evil_module", "evil_package", "evil_package.nets"):
        sys.modules.pop(name, None)


def with_node(tree: dict[str, Any], place: str, node: Any) -> dict[str, Any]:
    result = copy.deepcopy(tree)
    *parents, last = place.split(".")
    parent = result
    for name in parents:
        parent = parent.setdefault(name, {})
    parent[last] = node
    return result


def run_directory(tree: dict[str, Any], path: Path = Path("sent")) -> str:
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True))
    return str(path)


def sent_checkpoint(tree: dict[str, Any]) -> str:
    info = {"classes": ["a", "b"], "shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "config": tree}
    content: Any = {"format": checkpoint.FORMAT, "info": info, "row": {}, "model": {}, "averaged": None}
    checkpoint.save(content, Path("sent.pt"))
    return "sent.pt"


def assert_refused(answer: tuple[int, str, str], key: str, target: Any, tmp_path: Path) -> None:
    code, out, err = answer
    assert not (tmp_path / "PWNED").exists(), "the code has run"
    assert code == 2, out + err
    assert "Traceback" not in err
    assert f"{key} = " in err or key in err
    if isinstance(target, str):
        assert repr(target) in err or target in err
        package = target.partition(".")[0]
        if package in ("evil_module", "evil_package") and target.isprintable() and "__" not in target:
            assert f"--allow {package}" in err


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: repr(t)[:40])
def test_a_run_directory_cannot_name_what_is_no_option(target, tree, train, tmp_path):
    node = {"_target_": target, **ARGUMENTS}
    answer = train(f"resume={run_directory(with_node(tree, 'architecture', node))}")
    assert_refused(answer, "architecture", target, tmp_path)


@pytest.mark.parametrize("target", ["os.system", "evil_module.Net", "torch.hub.load", "subprocess.Popen"])
@pytest.mark.parametrize("place", PLACES)
def test_no_group_of_a_run_directory_takes_it(place, target, tree, train, tmp_path):
    node = {"_target_": target, **ARGUMENTS}
    answer = train(f"resume={run_directory(with_node(tree, place, node))}")
    assert_refused(answer, place, target, tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("task.loss", {"_target_": "os.system", "command": COMMAND}),
        ("task.loss", {"_target_": "evil_module.function"}),
        ("architecture", {"_target_": "torch.nn.Sequential", "args": [{"_target_": "evil_module.Net"}]}),
        ("architecture", {"_target_": "torchvision.models.resnet18", "x": {"y": [{"_target_": "os.system"}]}}),
        ("architecture", {"_target_": "torch.nn.Linear", "_args_": [1, 2]}),
        ("architecture", {"_target_": "torch.nn.Linear", "_partial_": True}),
        ("optimizer", {"_target_": "torch.optim.SGD", "lr": 0.1, "_recursive_": True}),
        ("optimizer.lr", {"_target_": "evil_module.function"}),
        ("schedule", [{"_target_": "evil_module.Net"}]),
        ("schedule", {"_target_": "evil_module.Net"}),
        ("augmentation", {"a": {"_target_": "albumentations.Compose", "transforms": [{"_target_": "evil_module.Net"}]}}),
        ("_target_", "evil_module.function"),
        ("hydra", {"callbacks": {"evil": {"_target_": "evil_module.Net"}}}),
        ("hydra", {"launcher": {"_target_": "os.system"}}),
        ("hydra", {"sweeper": {"_target_": "evil_module.Net"}}),
        ("hydra", {"searchpath": ["file://modules"], "job_logging": {"x": {"()": "evil_module.function"}}}),
        ("job", {"_target_": "trainer.jobs.Fit", "tta": {"_target_": "evil_module.Net"}}),
        ("data.root", "${oc.env:HOME}"),
        ("metric", "${oc.env:SECRET,none}"),
        ("metric", "${hydra:runtime.cwd}"),
        ("metric", "${oc.decode:'[1]'}"),
        ("metric", "${now:%Y}"),
        ("architecture.name", "a ${oc.env:SECRET} b"),
        ("architecture.name", "${a.${oc.env:SECRET}}"),
        ("architecture._target_", "${oc.env:TARGET}"),
        ("architecture", {"_target_": "${metric}", "command": COMMAND}),
        ("seed", {"${oc.env:SECRET}": 1}),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["resume", "checkpoint"])
def test_nesting_lists_interpolation_and_keys_of_hydra_change_nothing(
    kind, place, value, tree, train, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("TARGET", "evil_module.Net")
    if kind == "checkpoint" and place == "job":
        place = "recipe"  # the job is not that of the checkpoint
    changed = with_node(tree, place, value)
    words = (
        [f"resume={run_directory(changed)}"]
        if kind == "resume"
        else [f"checkpoint={sent_checkpoint(changed)}", "job=evaluate"]
    )
    code, out, err = train(*words)
    assert not (tmp_path / "PWNED").exists()
    assert code == 2, out + err
    assert "Traceback" not in err
    assert "hunter2" not in out + err


@pytest.mark.parametrize("job", ["evaluate", "predict", "export"])
@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.getoutput", "runpy.run_path", "evil_module.Net", "torch.load", "trainer.files.write_text"]
)  # fmt: skip
def test_a_checkpoint_cannot_name_what_is_no_option(target, job, tree, train, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    path = sent_checkpoint(with_node(tree, "architecture", {"_target_": target, **ARGUMENTS}))
    words = ["job.images=a.png"] if job == "predict" else []
    assert_refused(train(f"job={job}", f"checkpoint={path}", *words), "architecture", target, tmp_path)


@pytest.mark.parametrize("text", [
    "architecture: {_target_: evil_module.Net}", "architecture:\n  _target_: os.system\n  command: touch PWNED",
    "augmentation: {evil: {_target_: evil_module.Net}}", "hydra: {callbacks: {x: {_target_: evil_module.Net}}}",
    "data: {root: '${oc.env:SECRET}'}", "task: {loss: {_target_: evil_module.function}}", "metric: ${oc.env:SECRET}",
    "defaults: [override hydra/launcher: evil]", "a: !!python/object/apply:os.system ['touch PWNED']",
    "optimizer: &a {lr: *a}",
])  # fmt: skip
def test_a_sent_experiment_names_no_code_and_reads_no_variables(text, train, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent/best.yaml").write_text(f"# @package _global_\n{text}\n")
    code, out, err = train("experiment=sent/best", "data=fake")
    assert not (tmp_path / "PWNED").exists()
    assert code == 2, out + err
    assert "Traceback" not in err
    assert "hunter2" not in out + err


def test_the_answer_says_what_to_type_and_that_is_enough(tree, train, tmp_path):
    node = {"_target_": "evil_module.Net"}
    words = [f"resume={run_directory(with_node(tree, 'architecture', node))}"]
    code, _, err = train(*words)
    assert code == 2
    assert f"whose code would run: train {shlex.join([*words, '--allow', 'evil_module'])}" in err
    assert train(*words, "--allow", "evil_module", "--cfg", "job")[0] == 0
    assert load_config(words).architecture.target.__name__ == "Net"
    assert (tmp_path / "PWNED").exists(), "the user trusts the module now"


def test_what_the_user_types_or_has_in_a_config_dir_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "mine/architecture").mkdir(parents=True)
    (tmp_path / "mine/architecture/net.yaml").write_text("# Mine.\n_target_: nets_of_mine.Net\n")
    (tmp_path / "mine/nets_of_mine.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    assert load_config(["architecture=net"], ["mine"]).architecture.target.__name__ == "Net"
    typed = load_config(["architecture._target_=evil_module.Net", *REMOVED])
    assert typed.architecture.target.__name__ == "Net"


@pytest.mark.parametrize("name", ["os", "sys", "subprocess", "builtins", "a b", "../x", "-c", ""])
def test_modules_of_python_itself_cannot_be_allowed(name, train):
    code, _, err = train(f"--allow={name}", "data=fake")
    assert code == 2
    assert "--allow" in err
    assert name not in trust.allowed() or not name


def test_a_class_of_the_user_is_found_in_the_working_directory_once_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "here_lies_mine.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(NotTrusted):
        locate("here_lies_mine.Net", "architecture")
    trust.allow("here_lies_mine")
    assert locate("here_lies_mine.Net", "architecture").__name__ == "Net"
    assert sys.path[-1] == str(tmp_path), "installed packages come first"
