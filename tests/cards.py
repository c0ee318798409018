"""A work directory with a small file of every mode, written by hand."""

import json

import numpy as np

from diffusion_jax import config as config_lib, saved_config
from diffusion_jax.cli.report import charts, figures
from diffusion_jax.evaluation import membership, neighbours, per_class
from diffusion_jax.runtime import image_grids
from diffusion_jax.sampling import trajectory


def figure(value, error):
    return {"bits_per_dim": value, "standard_error": error, "monte_carlo_se": error / 2}


def picture(path, rows=2, columns=4):
    pixels = np.random.default_rng(0).integers(0, 17, (rows * columns, 8, 8, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    image_grids.save_png(path, image_grids.grid(pixels, 17, columns))


def write(folder):
    """Writes it; returns the folder."""
    folder.mkdir(parents=True)

    def put(name, value):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))

    c = config_lib.base()
    c.data, c.conditional, c.guidance = "digits()", True, "cfg(w=2.0)"
    c.network = "vdm_unet(width=32, depth=2, embed=64)"
    put("config.json", saved_config.to_dict(c))
    (folder / "params.txt").write_text("| conv/kernel | (3, 3, 1, 32) | 288 |\n")
    put("data.json", {"name": "pets/train", "images": 1234, "sketch": "0",
                      "classes": ["cat", "dog"], "counts": [1000, 234],
                      "notes": ["train: 1234 images of pets"]})  # fmt: skip
    put("environment.jsonl", {"step": 0, "time": "2026-01-01T00:00:00+00:00",
                              "devices": "1 x cpu", "processor": "Xeon"})  # fmt: skip
    rows = [
        {"step": s, "seconds": s / 40, "train/loss": 1 + 200 / s, "train/diffusion": 200 / s,
         "train/prior": 0.01, "train/reconstruction": 0.02, "train/grad_norm": 50 / s,
         "train/gamma_0": -7.5, "train/gamma_1": 5.5} for s in range(100, 1700, 100)
    ]  # fmt: skip
    rows += [{"step": s, "seconds": s / 40, "valid/bits_per_dim": 2.0, "valid/standard_error": 0.1}
             for s in (800, 1600)]  # fmt: skip
    rows += [{"step": 1600, "seconds": 50.0, "test/bits_per_dim": 1.8, "test/standard_error": 0.02}]
    rows.sort(key=lambda r: r["seconds"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    _likelihood(put)
    _generated(folder, put)
    _quality(folder, put)
    _rest(folder, put)
    return folder


def _likelihood(put):
    gamma = np.linspace(-7.4, 5.4, 12)
    loss = (0.3 * np.exp(-((gamma + 5) ** 2) / 20)).tolist()
    parts = {"prior": figure(0.002, 7.8e-06), "diffusion": figure(1.74834, 0.0156),
             "reconstruction": figure(0.0458, 0.0005)}  # fmt: skip
    numerics = {"devices": "1 x cpu", "jax": "0.10.2", "diffusion_jax": "0.1.0"}
    total = figure(1.79612, 0.01562)
    put("eval/1600.json", {
        "result": {**total, "breakdown": parts, "images": 297,
                   "bound_by_timesteps": {"50": figure(2.0228, 0.0178), "infinity": total}},
        "estimator": {"kind": "variational bound"}, "model": {"step": 1600, "parameters": 313155},
        "data": {"name": "digits/test"}, "numerics": numerics,
        "loss_by_gamma": {"gamma": gamma.tolist(), "bits_per_dim_per_gamma": loss},
    })  # fmt: skip
    put("eval/1600_ode_hutchinson_decoder_k5.json", {
        "result": {**figure(1.862, 0.0145), "monte_carlo_se": None, "images": 8},
        "estimator": {"kind": "importance-weighted bound", "bound": False},
        "data": {"name": "digits/test"}, "numerics": numerics,
    })  # fmt: skip
    t = np.linspace(0, 1, 9)
    line = (-7.4 + 12.8 * t).tolist()
    put("inspect/1600.json", {
        "schedule": {"t": t.tolist(), "gamma": (-7.4 + 12.8 * t**2).tolist(), "line": line},
        "loss_by_gamma": {"gamma": gamma.tolist(), "mean": loss, "second_moment": loss},
        "densities": {"gamma": line, "schedule": line, "optimum": line, "straight_line": line},
        "variance": {"schedule": {"variance": 0.477, "standard_error": 0.011}},
    })  # fmt: skip


def _generated(folder, put):
    how = {"sampler": "ancestral()", "guidance": "cfg(w=2.0)", "network_calls": 50, "seed": 0}
    picture(folder / "samples/1600.png", columns=20)  # wider than any window
    np.savez(folder / "samples/1600.npz", image=np.zeros((8, 8, 8, 1)), method=json.dumps(how))
    frames = np.random.default_rng(0).integers(0, 17, (2, 3, 4, 8, 8, 1)).astype(np.uint8)
    found = trajectory.Trajectory(np.linspace(5.0, -7.0, 3), *frames, 17)
    put("report/1600_trajectory.json", how | {"steps": 50, "gammas": found.gammas.tolist()})
    trajectory.save_webp(folder / "report/1600_trajectory.webp", trajectory.movie(found))
    image_grids.save_png(folder / "report/1600_trajectory.png", trajectory.strip(found))
    put(
        "report/1600_reconstructions.json",
        {
            "images": 4,
            "split": "pets/test",
            "exact": 0.25,
            "mean_absolute_error": 1.5,
            "levels": 17,
        },
    )
    image_grids.save_png(folder / "report/1600_reconstructions.png", trajectory.strip(found))
    put("edits/1600_repaint_test/record.json", {
        "edit": {"method": "repaint()"}, "sampling": how, "model": {"step": 1600}
    })  # fmt: skip
    picture(folder / "edits/1600_repaint_test/sheet.png")


def _quality(folder, put):
    classes = {"samples": [0.3, 0.7], "data": [0.5, 0.5], "accuracy": 0.9}
    put("quality/1600_pixels_0a.json", {
        "result": {"frechet": {"mean": 0.15253, "standard_error": 0.0047},
                   "precision": {"mean": 0.83}},
        "floor": {"split": "digits/test", "images": 297, "frechet": {"value": 0.26},
                  "coverage": {"precision": 0.94}, "classes": classes},
        "figures": [{"classes": classes}],
        "samples": {"sampler": "ancestral()", "guidance": "none()", "images": 1000, "sets": 2},
        "reference": {"split": "digits/train", "images": 1400},
        "features": {"features": "pixels()", "size": 64}, "numerics": {"jax": "0.10.2"},
    })  # fmt: skip
    picture(folder / "quality/1600_pixels_0a.png")
    put("throughput.json", {"rows": [{"steps_per_s": 1.0}]})  # of another benchmark
    put("guidance.json", {"rows": [
        {"table": t, "sampler": "ddim()", "guidance": g, "network_calls": n, "frechet": f,
         "accuracy": 0.5}
        for t, g, n, f in (("cfg", "cfg(w=1.0)", 5, 0.5), ("cfg", "cfg(w=2.0)", 5, 0.3),
                           ("calls", "none()", 5, 0.9), ("calls", "none()", 10, 0.8))
    ]})  # fmt: skip


def _rest(folder, put):
    put("compressed/1600.json", {
        "result": {"net_bits_per_dim": 2.01935, "file_bits_per_dim": 2.5556,
                   "labels_bits_per_dim": 0.05, "header_bits_per_dim": 0.1,
                   "initial_bits_in_file_per_dim": 0.3, "images_per_second": 11.0},
        "bound": {"same_latents": {"bits_per_dim": 2.0216},
                  "fresh_latents": {**figure(2.0228, 0.0178), "net_minus_bound": -0.0035,
                                    "monte_carlo_se_of_difference": 0.01}},
        "file": {"name": "1600.djz", "images": 297, "bytes": 6072, "timesteps": 50,
                 "order": "bitswap"},
        "data": {"name": "digits/test"},
        "other_formats": [{"format": "PNG", "bits_per_dim_sheet": 3.8},
                          {"format": "JPEG XL", "missing": "not installed"}],
    })  # fmt: skip
    rate, psnr, gamma = [0.0, 0.9, 1.99], [8.0, 29.0, 45.43], [5.4, -4.0, -7.4]
    curve = {"rate_bits_per_dim": rate, "psnr_db": psnr, "gamma": gamma}
    put("progressive/1600.json", {"result": {"curve": curve}, "picture": curve})
    picture(folder / "progressive/1600_images.png")
    put("ood/1600_a_b.json", {
        "result": {"bits/dim": {"auroc": 0.9949, "standard_error": 0.0035, "mean_data": 1.75,
                                "mean_against": 3.4}},
        "data": {"name": "digits/test"}, "against": {"name": "rotated_digits/test"},
    })  # fmt: skip
    both = np.arange(9.0), np.arange(9.0) + 3
    charts.save(folder / "ood/1600_a_b.png", figures.scores("bits/dim", both, ["a", "b"]))
    _audit(put)
    sides = {"a": figure(1.64, 0.15), "b": figure(1.65, 0.15)}
    difference = {"difference": figure(0.0056, 0.0187), "monte_carlo_se": 0.0172}
    put("compare/a_b.json", sides | difference)


def _audit(put):
    rng = np.random.default_rng(0)
    members, strangers = rng.normal(1.6, 0.2, (150, 4)), rng.normal(1.7, 0.2, (120, 4))
    bits = membership.gap(members.sum(1), strangers.sum(1))
    rows = membership.by_band(members, strangers, np.linspace(-7.4, 5.4, 5))
    sides = {k: figure(1.61, 0.0123) for k in ("train", "held_out")}
    best = {**membership.best_band(members, strangers), "from": -4.1, "to": -2.3}
    guess, labels = rng.integers(0, 2, 90), np.arange(120) % 2
    near, real = (neighbours.Nearest(rng.normal(size=(30, 2))) for _ in range(2))
    for found in (near, real):
        found.add(rng.normal(size=(50, 2)))
    put("audit/1600.json", {
        "result": {
            "gap": {**bits, **sides, "bands": rows, "largest": rows[0]},
            "membership": {**membership.auroc(members.sum(1), strangers.sum(1)),
                           **membership.found(members.sum(1), strangers.sum(1)),
                           "best_band": best},
            "copies": neighbours.copies(near, real),
            "bits_of_classes": per_class.bits(strangers.sum(1), labels),
            "shares_of_classes": per_class.shares(guess, labels, np.eye(2), np.array([60, 60])),
        },
        "notes": ["scores are of original images"], "left_out": ["copies of whales"],
        "draws_per_image": 32, "data": {"name": "digits/train", "images": 150},
        "held_out": {"name": "digits/test", "images": 120},
    })  # fmt: skip
