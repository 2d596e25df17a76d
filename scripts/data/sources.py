"""temporary"""
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
import numpy as np, pandas as pd
from scripts.config import DataConfig
from scripts.data.synthetic import generate
@dataclass(frozen=True)
class RawData:
    frame: pd.DataFrame
    notes: tuple[str, ...]
    truth: np.ndarray | None = None
    file_sha256: str = ""
def read_data(config: DataConfig, where: Path | None = None) -> RawData:
    if config.source == "synthetic":
        bars, truth = generate(config.synthetic)
        bars["date"]=pd.to_datetime(bars["date"]); t=truth["p_up_next"].to_numpy()
        return RawData(bars, (), t)
    f=pd.read_csv(where or config.path, parse_dates=["date"], dtype={"ticker":str}, keep_default_na=False).sort_values(["ticker","date"]).reset_index(drop=True)
    return RawData(f.drop(columns=["raw_close"], errors="ignore"), ())
