#!/usr/bin/env python3
"""Training sequences a second of `cistron head train` beside the same network in eager PyTorch.

usage: heads_throughput.py CISTRON TABLE [THREADS [ROUNDS]]

TABLE is a scan in ProteinGym's format, such as BLAT_ECOLX_Stiffler_2015.csv.gz. Both train the published
Lyra (47,169 parameters) on the same one-hot sequences in fp32 with AdamW, in batches of 128, in turns;
the best of ROUNDS [3] counts, as other work on the machine can only slow a round down.
"""

import csv, gzip, json, math, subprocess, sys, tempfile, time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, STATE, BATCH, STEPS = 64, 64, 128, 10
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-8)


class Gated(nn.Module):
    def __init__(self, expansion):
        super().__init__()
        inner = int(expansion * WIDTH)
        self.into, self.norm = nn.Linear(WIDTH, 2 * inner), Norm(2 * inner)
        self.conv = nn.Conv1d(inner, inner, 3, padding=1, groups=inner)
        self.out, self.last = nn.Linear(inner, WIDTH), Norm(WIDTH)

    def forward(self, x):
        a, gate = self.norm(self.into(x)).chunk(2, -1)
        return self.last(self.out(gate * self.conv(a.transpose(1, 2)).transpose(1, 2)))


class S4D(nn.Module):
    def __init__(self):
        super().__init__()
        half = STATE // 2
        self.log_dt = nn.Parameter(torch.empty(WIDTH).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_real = nn.Parameter(torch.full((WIDTH, half), math.log(0.5)))
        self.imaginary = nn.Parameter(math.pi * torch.arange(half).expand(WIDTH, half).clone())
        self.c = nn.Parameter(torch.randn(WIDTH, half, 2) * 0.5**0.5)
        self.skip, self.out = nn.Parameter(torch.randn(WIDTH)), nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        length = x.shape[1]
        dt, poles = self.log_dt.exp()[:, None], torch.complex(-self.log_real.exp(), self.imaginary)
        c = torch.view_as_complex(self.c) * (torch.exp(dt * poles) - 1) / poles
        powers = torch.exp((dt * poles)[..., None] * torch.arange(length))
        kernel = 2 * torch.einsum("hn,hnl->hl", c, powers).real
        u = x.transpose(1, 2)
        spectrum = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(kernel, 2 * length)
        y = torch.fft.irfft(spectrum, 2 * length)[..., :length] + self.skip[:, None] * u
        y = F.dropout1d(F.gelu(y), 0.2)
        return F.dropout1d(F.glu(self.out(y.transpose(1, 2))).transpose(1, 2), 0.2).transpose(1, 2)


class Lyra(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(len(LETTERS), WIDTH), nn.Linear(WIDTH, 1)
        self.first, self.second, self.norm, self.mix = Gated(0.25), Gated(2), Norm(WIDTH), S4D()

    def forward(self, x):
        x = self.second(self.first(self.encoder(x)))
        return self.decoder((x + self.mix(self.norm(x))).mean(1))[:, 0]


def main():
    cistron, table = sys.argv[1:3]
    threads, rounds = (int(word) for word in (sys.argv[3:] + ["1", "3"][len(sys.argv) - 3 :]))
    torch.set_num_threads(threads)
    with gzip.open(table, "rt") as file:
        rows = list(csv.DictReader(file))[: BATCH * STEPS]
    letters = torch.tensor([[LETTERS.index(letter) for letter in row["mutated_sequence"]] for row in rows])
    targets = torch.tensor([float(row["DMS_score"]) for row in rows])
    targets = (targets - targets.mean()) / targets.std()
    net = Lyra()
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == 47_169, parameters
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)

    def eager():
        begun = time.monotonic()
        for batch in torch.randperm(len(rows)).split(BATCH):
            x = F.one_hot(letters[batch], len(LETTERS)).float()
            optimizer.zero_grad()
            F.mse_loss(net(x), targets[batch]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        return len(rows) / (time.monotonic() - begun)

    with tempfile.TemporaryDirectory() as folder:
        part, out = Path(folder) / "part.csv", Path(folder) / "head"
        lines = ["s,y"] + [f"{row['mutated_sequence']},{row['DMS_score']}" for row in rows]
        part.write_text("\n".join(lines) + "\n")
        command = (
            f"{cistron} --quiet --threads {threads} head train --table {part} --sequence-column s"
            f" --target-column y --out {out} --force --variant lyra --margin all --batch {BATCH}"
            " --epochs 2 --test-fold none --validation 0 --baselines none --device cpu"
        )

        def ours():
            subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
            return json.loads((out / "metrics.json").read_text())["folds"][0]["members"][0]

        eager()
        best = [0.0, 0.0]
        for _ in range(rounds):
            best = [max(best[0], eager()), max(best[1], ours()["sequences_per_second"])]
    print(f"{letters.shape[1]} letters, batches of {BATCH}, {threads} threads, sequences a second:")
    print(f"eager PyTorch {best[0]:.0f}, cistron {best[1]:.0f}: {best[1] / best[0]:.1f} times as many")


main()
