"""Episodes drawn: the right frames, with the right things in the right places."""

import base64
import json
import math
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageColor, ImageSequence

import purerl
from purerl.agents import ppo
from purerl.engine import population, train
from purerl.engine.checkpoint import Checkpoints
from purerl.engine.cohort import Saved
from purerl.engine.population import keys
from purerl.engine.programs import init_program
from purerl.engine.record import describe
from purerl.render import drawable, frames, main, render
from purerl.rendering import grids
from purerl.rendering.canvas import BLUE, END_MS, GREEN, INK, ORANGE, RED, captioned, write_gif
from purerl.rendering.classic import SCENES, acrobot, cartpole, mountain_car, pendulum
from purerl.rendering.episode import Episode

CONFIG = ppo.Config(num_envs=4, unroll_length=16, hidden_sizes=(8,))


@pytest.fixture(scope="module")
def cartpole_run(tmp_path_factory):
    """The directory of a run of two members and two iterations."""
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), CONFIG)
    path = tmp_path_factory.mktemp("runs") / "cartpole"
    return train(agent, 2 * 64, seeds=2, eval_episodes=2, run_dir=path).run_dir


def untrained(path, name, **kwargs):
    """The directory of a run of one member before its first iteration: no update is compiled."""
    agent = ppo.make(purerl.make(name, **kwargs), CONFIG)
    members = population(agent.hparams, 1)
    path.mkdir()
    config = describe(agent, members, steps_per_update=agent.steps_per_update)
    (path / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(path / "checkpoint")
    init = jax.jit(init_program(agent, 1, 1))
    state = init(keys(members.seeds), members.hparams)
    row = jnp.zeros(1, jnp.int32)
    hparams = jax.tree.map(jnp.asarray, members.hparams)
    checkpoints.save(0, Saved(state, hparams, member=row, dropped=row - 1))
    checkpoints.close()
    return path


def centre_of(picture, colour):
    """(x, y) the mean place of a colour, as shares of the width and height, y upwards."""
    near = np.abs(np.asarray(picture, int) - ImageColor.getrgb(colour)).max(-1) < 12
    assert near.any()
    y, x = np.nonzero(near)
    return x.mean() / near.shape[1], 1 - y.mean() / near.shape[0]


def test_an_episode_is_written_frame_by_frame(cartpole_run):
    path, episode = render(cartpole_run, member=1)
    assert path == cartpole_run / "episode.gif"
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0
        assert gif.size == (480, 230)
    # Every second state from the first on, and the last.
    assert len(durations) == math.ceil(episode.length / 2) + 1
    assert durations == [40] * (len(durations) - 1) + [END_MS]
    assert episode.ended
    assert episode.reward.sum() == episode.length


def test_the_episode_is_a_trajectory_of_its_environment(cartpole_run):
    _, episode = render(cartpole_run, member=0, seed=3)
    env = purerl.make("gymnax/CartPole-v1")
    before, after = (
        jax.tree.map(lambda x: x[part], episode.state) for part in (np.s_[:-1], np.s_[1:])
    )
    keys = jax.random.split(jax.random.key(0), episode.length)
    stepped, timestep = jax.vmap(env.step)(keys, before, episode.action)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stepped, after)
    assert timestep.done.tolist() == [False] * (episode.length - 1) + [True]


def test_the_seed_decides_the_start_and_steps_the_end(cartpole_run):
    starts = [
        render(cartpole_run, member=m, seed=s, steps=3)[1] for m, s in ((0, 1), (1, 1), (0, 2))
    ]
    np.testing.assert_array_equal(starts[0].obs[0], starts[1].obs[0])
    assert (starts[0].obs[0] != starts[2].obs[0]).any()
    assert [(e.length, e.ended) for e in starts] == [(3, False)] * 3


def test_the_best_member_is_that_of_the_last_evaluation(cartpole_run, tmp_path, capsys):
    rows = (cartpole_run / "metrics.csv").read_text().splitlines()
    scores = [float(r.split(",")[-1]) for r in rows if ",eval/return," in r][-2:]
    best = int(np.argmax(scores))
    output = tmp_path / "best.gif"
    assert main([str(cartpole_run), "--output", str(output)]) == 0
    assert f"written to {output}" in capsys.readouterr().out
    render(cartpole_run, member=best, output=tmp_path / "same.gif")
    assert output.read_bytes() == (tmp_path / "same.gif").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--member", "2"], "member=2: must be best, or from 0 to 1"),
        (["--member", "x"], "--member"),
        (["--steps", "0"], "steps=0: must be positive"),
        (["--seed", "-1"], "seed=-1: must be from 0"),
        (["--output", "episode.png"], "must end in .gif"),
        (["--output", "/nowhere/episode.gif"], "there is no directory '/nowhere'"),
        (["--stepz", "3"], "did you mean --steps?"),
    ],
)
def test_a_wrong_flag_is_one_line(cartpole_run, capsys, flags, words):
    assert main([str(cartpole_run), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_what_cannot_be_drawn_is_one_line(cartpole_run, capsys, monkeypatch):
    monkeypatch.delitem(SCENES, "gymnax/CartPole-v1")
    assert main([str(cartpole_run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: env='gymnax/CartPole-v1': cannot be drawn; can be: brax")
    assert "Breakout-MinAtar" in error
    assert error.count("\n") == 1


def test_a_minatar_game_is_drawn(tmp_path, capsys):
    run_dir = untrained(tmp_path / "run", "gymnax/Breakout-MinAtar")
    path, episode = render(run_dir, member=0, steps=12)
    with Image.open(path) as gif:
        assert gif.size == (10 * grids.CELL, 10 * grids.CELL + 26)
        shown = sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif))
    assert shown == 60 * episode.length + END_MS
    assert main([str(run_dir)]) == 2
    assert "member='best': metrics.csv has no evaluation" in capsys.readouterr().err


def test_a_brax_episode_is_a_page_with_system_and_trajectory(tmp_path):
    path = untrained(tmp_path / "run", "brax/inverted_pendulum", action_repeat=2)
    page, episode = render(path, member=0, steps=5)
    assert page == path / "episode.html"
    text = page.read_text()
    packed = re.search(r'var system = "([^"]+)"', text)
    system = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    assert system["geoms"]
    assert len(system["states"]["x"]) == episode.length + 1
    poses = np.array([x["pos"] for x in system["states"]["x"]])
    np.testing.assert_allclose(poses[:, 0, 0], episode.obs[:, 0], atol=1e-4)  # the cart
    # Two steps of brax, each of four steps of physics of 0.005 s.
    assert system["opt"]["timestep"] == pytest.approx(0.04)
    with pytest.raises(purerl.UsageError, match=r"must end in \.html"):
        render(path, output=tmp_path / "episode.gif")


@pytest.mark.parametrize("name", drawable())
def test_every_drawable_environment_is_drawn(name, tmp_path):
    env = purerl.make(name)
    key = jax.random.key(0)

    @jax.jit
    def two_states():
        state, obs = env.reset(key)
        action = env.action_space.sample(key)
        after, timestep = env.step(key, state, action)
        stack = lambda a, b: jax.numpy.stack([a, b])
        states = jax.tree.map(stack, state, after)
        return states, stack(obs, timestep.obs), action[None], timestep.reward[None]

    episode = Episode(*jax.device_get(two_states()), False, dict(env.params))
    if name in grids.PALETTES:
        assert len(grids.PALETTES[name]) == env.observation_space.shape[-1]
    pictures, _ = frames(name, episode)
    pictures = list(pictures)
    assert len(pictures) == 2
    assert len(pictures[0].getcolors(1 << 16)) > 8


def test_a_cart_stands_where_it_is_and_its_pole_leans_as_it_does():
    params = {"x_threshold": 2.4, "length": 0.5}
    for x, theta in ((0.0, 0.0), (1.2, 0.2), (-2.0, -0.2)):
        picture = cartpole({"x": x, "theta": theta}, params, 0)
        cart, pole = centre_of(picture, INK), centre_of(picture, ORANGE)
        assert cart[0] == pytest.approx((x + 2.7) / 5.4, abs=0.005)
        assert pole[0] - cart[0] == pytest.approx(0.5 * math.sin(theta) / 5.4, abs=0.01)


@pytest.mark.parametrize(
    ("theta", "place"),
    [(0.0, (0, 1)), (math.pi / 2, (-1, 0)), (math.pi, (0, -1)), (-1.0, (0.84, 0.54))],
)
def test_a_pendulum_points_up_at_zero_and_turns_anticlockwise(theta, place):
    picture = pendulum({"theta": theta}, {"l": 1.0}, np.zeros(1))
    rod = np.array(centre_of(picture, RED)) * 2.7 - 1.35
    np.testing.assert_allclose(rod, np.array(place) / 2, atol=0.04)


def test_the_arrow_is_on_the_side_to_which_the_torque_turns():
    for torque in (2.0, -2.0):
        picture = pendulum({"theta": 0.0}, {"l": 1.0}, np.array([torque]))
        assert (centre_of(picture, INK)[0] < 0.5) == (torque > 0)


def test_acrobots_links_hang_at_zero_and_turn_anticlockwise():
    params = {"link_length_1": 1.0}
    for one, two, first, second in (
        (0.0, 0.0, (0.0, -0.5), (0.0, -1.5)),
        (math.pi / 2, 0.0, (0.5, 0.0), (1.5, 0.0)),
        (math.pi / 2, math.pi / 2, (0.5, 0.0), (1.0, 0.5)),
        (math.pi, -math.pi / 2, (0.0, 0.5), (0.5, 1.0)),
    ):
        state = {"joint_angle1": one, "joint_angle2": two}
        picture = acrobot(state, params, 0)
        for colour, place in ((BLUE, first), (ORANGE, second)):
            seen = np.array(centre_of(picture, colour)) * 4.5 - 2.25
            np.testing.assert_allclose(seen, place, atol=0.08)


def test_a_mountain_car_stands_on_the_hill_below_its_flag():
    params = {"min_position": -1.2, "max_position": 0.6, "goal_position": 0.5}
    for position in (-1.0, -math.pi / 6, 0.2):
        picture = mountain_car({"position": position}, params, 0)
        x, y = centre_of(picture, BLUE)
        assert x * 1.8 - 1.2 == pytest.approx(position, abs=0.07)
        assert y * 1.25 == pytest.approx(0.45 * math.sin(3 * position) + 0.55 + 0.06, abs=0.04)
    assert centre_of(picture, GREEN)[0] * 1.8 - 1.2 == pytest.approx(0.53, abs=0.02)


def test_a_grid_shows_the_first_channel_of_a_cell():
    obs = np.zeros((2, 3, 2), bool)
    obs[0, 1] = True
    obs[1, 2, 1] = True
    picture = grids.draw(obs, ("#ff0000", "#00ff00"))
    at = lambda row, column: picture.getpixel(
        (column * grids.CELL + grids.CELL // 2, row * grids.CELL + grids.CELL // 2)
    )
    assert picture.size == (3 * grids.CELL, 2 * grids.CELL)
    assert at(0, 1) == (255, 0, 0)
    assert at(1, 2) == (0, 255, 0)
    assert at(0, 0) == ImageColor.getrgb(grids.GROUND)


def test_a_colour_only_in_the_middle_of_a_gif_is_kept(tmp_path):
    plain = captioned(Image.new("RGB", (200, 80), grids.GROUND), "a game", "step 0")
    middle = plain.copy()
    middle.paste("#e0574f", (0, 0, 20, 20))
    write_gif(tmp_path / "x.gif", [plain, middle, plain], 50, ["#e0574f"])
    with Image.open(tmp_path / "x.gif") as gif:
        gif.seek(1)
        seen = gif.convert("RGB").getpixel((10, 10))
    np.testing.assert_allclose(seen, ImageColor.getrgb("#e0574f"), atol=8)
