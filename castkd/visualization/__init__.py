"""Reports and pictures of finished runs."""

from castkd.visualization.contact_sheet import contact_sheet
from castkd.visualization.curves import loss_curves, scalar_curves
from castkd.visualization.report import ReportRow, render_report, result_table

__all__ = [
    'ReportRow',
    'contact_sheet',
    'loss_curves',
    'render_report',
    'result_table',
    'scalar_curves',
]
