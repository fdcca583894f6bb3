// The parts of ECharts that the page draws with, and nothing else of it.
import { LineChart } from "echarts/charts";
import { AxisPointerComponent, GridComponent, MarkAreaComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([LineChart, GridComponent, TooltipComponent, AxisPointerComponent, MarkAreaComponent, CanvasRenderer]);

export { init };
