"""Summary of an evaluation for the terminal."""

from __future__ import annotations

import shlex

from scripts.commands.session import Session
from scripts.final_training.model import FinalModel
from scripts.reporting.evaluation_page import sure_of_return
from scripts.reporting.sections.model import ensemble_in_words
from scripts.reporting.sections.shared import YARDSTICK
from scripts.storage.evaluation_record import Evaluation


def summarise(session: Session, results: Evaluation, model: FinalModel) -> None:
    """Print what the whole run came to."""
    selection, spent = model.content.selection, results.epochs_spent_total
    low, high = results.accuracy_ci95
    ceiling = "" if results.ceiling is None else f"; best possible {results.ceiling:.4f}"
    naive = ", ".join(f"{name} {value:.4f}" for name, value in results.naive.items())
    references = ", ".join(f"{name} {value:.4f}" for name, value in results.references.items())
    session.echo()
    session.echo(f"epochs        {spent} against 60 x 50 = {YARDSTICK}, every fold counted")
    session.echo(f"chosen        {selection.reason}")
    session.echo(
        f"test          accuracy {results.accuracy:.4f} (s.e. {results.accuracy_se:.4f}, 95 % {low:.4f} to "
        f"{high:.4f}) on {results.n_rows} rows worth {results.n_effective or 0:.0f} independent ones{ceiling}"
    )
    session.echo(f"baselines     {naive}; {references}")
    if (constant := results.constant_answer) is not None:
        session.echo(f"predicts      {constant.name!r} in {constant.share:.1%} of the rows")
    skill_low, skill_high = results.skill_ci95
    session.echo(
        f"verdict       {results.verdict}: {results.skill:+.4f} (95 % {skill_low:+.4f} to {skill_high:+.4f}) "
        f"against the best naive rule{_corrected(results)}"
    )
    test = results.primary_test
    if test.statistic is not None:
        found = f"t {test.statistic:.2f}, p {test.p_value:.3g}"
        session.echo(f"              {test.name} test of the probabilities: {found}")
    versus = results.versus_reference
    low, high = versus.ci95
    worth, reference = "clearly" if low > 0 else "not clearly", versus.name.replace("_", " ")
    lead = f"{versus.difference:+.4f} (95 % {low:+.4f} to {high:+.4f})"
    session.echo(f"              {worth} better than tuned {reference}: {lead}")
    if (returns := results.returns) is not None:
        cost = "-" if returns.break_even_cost_bps is None else f"{returns.break_even_cost_bps:.1f}"
        session.echo(f"returns       gross {returns.gross:+.1%}, net {returns.net:+.1%}, break-even cost {cost} bps")
        if (foresight := returns.foresight_hit_rate) is not None:
            session.echo(f"              perfect predictions would win {foresight:.1%} of the positions")
        if sure := sure_of_return(returns):
            session.echo(f"              {sure}")
    if (ensemble := results.ensemble) is not None:
        session.echo(f"ensemble      {ensemble_in_words(ensemble)}")
    for warning in results.warnings:
        session.echo(f"warning       {warning}")
    session.echo(f"opened        {results.opened_in_words}")
    if (latency := results.latency) is not None:
        one, batch = (1000 * call.p50_s for call in (latency.one_row, latency.batch))
        session.echo(f"latency       {one:.2g} ms for one row, {batch:.2g} ms for {latency.batch.n_rows} (medians)")
    session.echo(f"report        {session.run_dir.evaluation / 'report.html'} and model_card.md")
    session.echo(f"TensorBoard   {shlex.join(['./start_tensorboard.sh', '--run-dir', str(session.run_dir.path)])}")


def _corrected(results: Evaluation) -> str:
    """The correction for further openings, behind the figures that it changes."""
    count = results.corrected_for_openings
    if count < 2:
        return ""
    low, high = results.skill_ci95_uncorrected
    return f", corrected for {count} openings (uncorrected {low:+.4f} to {high:+.4f}: {results.verdict_uncorrected})"
